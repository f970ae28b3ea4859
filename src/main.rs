//! The executable: parses the arguments, runs the command, and prints an error with its causes.

use std::io::Write;
use std::process::ExitCode;

use kube_retry_proxy::cli;
use kube_retry_proxy::telemetry::chain;
use mimalloc::MiMalloc;

/// Takes a tenth less processor time than that of glibc, and far less than that of musl. Without
/// huge pages it needs no more memory: bench/README.md.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // clap prints wrong usage itself and exits with 2.
    match cli::run(cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Nothing can be done when stderr is closed.
            let _ = writeln!(std::io::stderr().lock(), "error: {:#}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
