//! The proxy as a process of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::load::Server;
use crate::processors;

/// A running proxy. It is killed when this is dropped.
pub(crate) struct Proxy {
    child: Child,
    server: Server,
    _directory: TempDir,
}

impl Proxy {
    /// Starts `program` and waits until it serves. A script may start the proxy under a profiler,
    /// if it ends with `exec`.
    pub(crate) fn start(program: &Path, upstream: &Server, more: &[String]) -> Self {
        let directory = TempDir::new().expect("a directory");
        let upstream_ca = directory.path().join("upstream-ca.crt");
        fs::write(&upstream_ca, &upstream.ca_pem).expect("a file");
        let mut child = Command::new(program)
            .args([
                "serve",
                "--bind-address=127.0.0.1",
                "--secure-port=0",
                "--admin-bind-address=127.0.0.1:0",
                "--log-format=json",
            ])
            .arg(format!("--upstream=https://{}", upstream.address))
            .arg(format!("--upstream-ca-file={}", upstream_ca.display()))
            .arg(format!("--self-signed-dir={}", directory.path().display()))
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the proxy starts");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let address = log
            .by_ref()
            .map(|line| line.expect("the proxy logs text"))
            .find_map(|line| {
                serde_json::from_str::<serde_json::Value>(&line)
                    .ok()?
                    .get("address")?
                    .as_str()?
                    .parse()
                    .ok()
            })
            .expect("the proxy says where it serves");
        // The pipe must be read: if it is full, the proxy blocks.
        thread::spawn(move || log.for_each(drop));
        let ca_pem =
            fs::read_to_string(directory.path().join("ca.crt")).expect("the proxy writes its CA");
        Self {
            child,
            server: Server { address, ca_pem },
            _directory: directory,
        }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// The CPU time of the proxy since its start, in user space and in the kernel.
    pub(crate) fn processor_time(&self) -> Duration {
        Duration::from_secs_f64(processors::process(self.child.id()))
    }
}

impl Drop for Proxy {
    /// Ends the proxy with a signal first, so that a profiler can write its result.
    fn drop(&mut self) {
        let asked = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        if !asked.is_ok_and(|status| status.success()) {
            // The process may have ended already.
            let _killed = self.child.kill();
        }
        let _reaped = self.child.wait();
    }
}
