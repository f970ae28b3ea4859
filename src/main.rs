//! The executable: parses the arguments, runs the command, and prints an error with its causes.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use kube_retry_proxy::cli;

fn main() -> ExitCode {
    // clap prints wrong usage itself and exits with 2.
    match cli::run(cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Nothing can be done when stderr is closed.
            let _ = print_chain(&mut std::io::stderr().lock(), &error);
            ExitCode::FAILURE
        }
    }
}

fn print_chain(out: &mut impl Write, error: &dyn Error) -> std::io::Result<()> {
    writeln!(out, "error: {error}")?;
    let mut cause = error.source();
    while let Some(error) = cause {
        // A list of mistakes has a line for each.
        let text = error.to_string().replace('\n', "\n    ");
        writeln!(out, "  caused by: {text}")?;
        cause = error.source();
    }
    Ok(())
}
