//! Runs the real executable as an operator does: with an empty environment, its output read line by
//! line, and ended by signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use model_control_plane::{ControlPlane, Settings};
use tempfile::{NamedTempFile, TempDir};

use crate::{Client, Protocol, eventually, one, plane};

/// `kube-retry-proxy ARGUMENTS`, without the environment variables of the tests.
pub fn command(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO_BIN_EXE_kube-retry-proxy").expect("run by cargo test");
    let mut command = Command::new(program);
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// `kube-retry-proxy serve ARGUMENTS` on free ports of loopback.
pub fn serve(arguments: &[&str]) -> Command {
    let free = [
        "serve",
        "--bind-address",
        "127.0.0.1",
        "--secure-port",
        "0",
        "--admin-bind-address",
        "127.0.0.1:0",
    ];
    command(&[&free[..], arguments].concat())
}

/// A process and its output so far. It is killed when this is dropped.
pub struct Process {
    child: Child,
    stdout: Printed,
    stderr: Printed,
}

/// The result of a finished process.
#[derive(Debug)]
pub struct Exit {
    /// `None` if a signal ended the process.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stderr) = (
            Printed::from(child.stdout.take().unwrap()),
            Printed::from(child.stderr.take().unwrap()),
        );
        Self {
            child,
            stdout,
            stderr,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits for the first line on stderr that contains `part`.
    pub async fn line(&mut self, part: &str) -> String {
        self.line_of(|process| process.stderr.text(), part).await
    }

    /// Waits for the first line on stdout that contains `part`.
    pub async fn stdout_line(&mut self, part: &str) -> String {
        self.line_of(|process| process.stdout.text(), part).await
    }

    async fn line_of(&mut self, printed: impl Fn(&Self) -> String, part: &str) -> String {
        let mut found = None;
        eventually(&format!("a line with {part:?}"), || {
            // Once the process has ended and its pipes are read, no line can follow.
            let over = self.child.try_wait().unwrap().is_some()
                && self.stdout.is_whole()
                && self.stderr.is_whole();
            found = printed(self)
                .lines()
                .find(|line| line.contains(part))
                .map(str::to_owned);
            found.is_some() || over
        })
        .await;
        found.unwrap_or_else(|| panic!("ended without a line with {part:?}:\n{}", self.stderr()))
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -{name} {}", self.child.id()))
            .status()
            .unwrap();
        assert!(
            sent.success(),
            "no SIG{name} for a process that should be alive"
        );
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end of the process.
    pub async fn ended(mut self) -> Exit {
        let mut code = None;
        eventually("the end of the process", || {
            match self.child.try_wait().unwrap() {
                Some(status) => {
                    code = status.code();
                    true
                }
                None => false,
            }
        })
        .await;
        Exit {
            code,
            stdout: self.stdout.rest(),
            stderr: self.stderr.rest(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Usually the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
pub async fn run(command: Command) -> Exit {
    Process::start(command).ended().await
}

/// As [`run`], with `input` on stdin.
pub async fn run_with_input(mut command: Command, input: &[u8]) -> Exit {
    let mut process = Process::start({
        command.stdin(Stdio::piped());
        command
    });
    process
        .child
        .stdin
        .take()
        .unwrap()
        .write_all(input)
        .unwrap();
    process.ended().await
}

/// The output that a thread has read from a pipe so far.
struct Printed {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Printed {
    fn from(pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let all = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = String::new();
            while pipe.read_line(&mut line).unwrap() > 0 {
                all.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        Self {
            text,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// Whether the pipe has ended.
    fn is_whole(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The complete output, after the other end has closed.
    fn rest(&mut self) -> String {
        self.reader.take().unwrap().join().unwrap();
        self.text()
    }
}

/// A `serve` process that has logged its addresses.
pub struct Served {
    pub process: Process,
    /// The log line with the addresses.
    pub line: String,
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

impl Served {
    pub async fn start(command: Command) -> Self {
        let mut process = Process::start(command);
        let line = process.line("Serving").await;
        let address = |name: &str| {
            field(&line, name)
                .unwrap_or_else(|| panic!("no {name} in {line}"))
                .parse()
                .unwrap()
        };
        Self {
            address: address("address"),
            admin: address("admin_address"),
            process,
            line,
        }
    }

    /// An HTTP/1.1 client that trusts `ca`.
    pub async fn client(&self, ca: &str, token: &str) -> Client {
        Client::connect(self.address, ca, token, Protocol::Http1).await
    }
}

/// The value of `name=` in a text line, or of `"name":` in a JSON line.
fn field(line: &str, name: &str) -> Option<String> {
    if let Ok(object) = serde_json::from_str::<serde_json::Value>(line) {
        return object[name].as_str().map(str::to_owned);
    }
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .map(str::to_owned)
}

/// A control plane with one apiserver, and a directory with its CA for the files that a proxy reads
/// and writes.
pub struct Place {
    pub plane: ControlPlane,
    directory: TempDir,
}

impl Place {
    pub async fn new() -> Self {
        Self::with(one()).await
    }

    pub async fn with(settings: Settings) -> Self {
        let place = Self {
            plane: plane(settings).await,
            directory: tempfile::tempdir().unwrap(),
        };
        place.write("upstream-ca.crt", place.plane.ca_pem());
        place
    }

    /// The path of a file in the directory. The file need not exist.
    pub fn path(&self, name: &str) -> String {
        self.directory
            .path()
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    }

    /// Writes a file atomically, so that no reader sees a part of it, and returns its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        let mut whole = NamedTempFile::new_in(self.directory.path()).unwrap();
        whole.write_all(text.as_bytes()).unwrap();
        whole.persist(&path).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// A configuration file that serves on free ports of loopback in front of the control plane,
    /// and signs its certificate in the directory. `more` are further sections.
    pub fn config(&self, more: &str) -> String {
        let (url, ca, directory) = (
            &self.plane.urls()[0],
            self.path("upstream-ca.crt"),
            self.path(""),
        );
        let text = format!(
            "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\nupstream: {{url: '{url}', caFile: {ca}}}\n\
             serving: {{bindAddress: 127.0.0.1, securePort: 0, selfSigned: {{directory: {directory}}}}}\n\
             admin: {{bindAddress: 127.0.0.1:0}}\n{more}"
        );
        self.write("config.yaml", &text)
    }

    /// The command `serve` with flags only; `more` are additional flags.
    pub fn serve(&self, more: &[&str]) -> Command {
        self.serve_trusting(&self.path("upstream-ca.crt"), more)
    }

    /// As [`Place::serve`], with another CA for the upstream.
    pub fn serve_trusting(&self, ca: &str, more: &[&str]) -> Command {
        let (url, directory) = (&self.plane.urls()[0], self.path(""));
        serve(
            &[
                &[
                    "--upstream",
                    url,
                    "--upstream-ca-file",
                    ca,
                    "--self-signed-dir",
                    &directory,
                ],
                more,
            ]
            .concat(),
        )
    }

    /// Starts a proxy with flags only; `more` are additional flags.
    pub async fn served(&self, more: &[&str]) -> Served {
        Served::start(self.serve(more)).await
    }

    /// A client with the control plane's token, for a proxy that has written its certificate into
    /// the directory.
    pub async fn client(&self, served: &Served) -> Client {
        served
            .client(&self.read("ca.crt"), self.plane.token())
            .await
    }
}
