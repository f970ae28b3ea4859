//! Child processes that end together with their parent.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::processors;

/// The stdout of a command, which must succeed. Its stderr is passed through.
pub fn output(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}: {printed}",
        output.status
    );
    printed
}

/// A process in the background. It is killed when this is dropped.
pub struct Running {
    name: &'static str,
    child: Child,
    /// Lines of its stderr, if it has no log file.
    said: Option<Receiver<String>>,
    /// The log file for both outputs, if it has one.
    log: Option<PathBuf>,
}

impl Running {
    /// Keeps stdout for [`Running::finish`]. Stderr is passed through, and also goes to
    /// [`Running::says`].
    pub fn start(name: &'static str, command: &mut Command) -> Self {
        let mut running = Self::spawn(name, command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let stderr = BufReader::new(running.child.stderr.take().unwrap());
        let (say, said) = channel();
        running.said = Some(said);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("{name}: {line}");
                // The receiver may be gone.
                let _ = say.send(line);
            }
        });
        running
    }

    /// Both outputs go to a new file.
    pub fn logging(name: &'static str, command: &mut Command, log: &Path) -> Self {
        let file = File::create(log).unwrap();
        let mut running = Self::spawn(name, command.stdout(file.try_clone().unwrap()).stderr(file));
        running.log = Some(log.to_owned());
        running
    }

    fn spawn(name: &'static str, command: &mut Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        Self {
            name,
            child,
            said: None,
            log: None,
        }
    }

    /// Waits for this line on stderr.
    pub fn says(&self, line: &str) {
        let said = self
            .said
            .as_ref()
            .unwrap_or_else(|| panic!("{} has a log", self.name));
        while said
            .recv_timeout(Duration::from_secs(60))
            .unwrap_or_else(|error| panic!("{} did not say {line:?}: {error}", self.name))
            != line
        {}
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Fails if the process has ended. The message has its status and the end of its log, because
    /// CI machines do not keep the file.
    pub fn assert_running(&mut self) {
        const LINES: usize = 40;
        if let Some(status) = self.child.try_wait().unwrap() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
            panic!(
                "{} ended by itself, {status}. The end of its log:\n{end}",
                self.name
            );
        }
    }

    /// What its log file has so far.
    pub fn log(&self) -> String {
        let read = |log| String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
        self.log.as_deref().map_or_else(String::new, read)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops the process with a signal, waits for its end, and returns its output. It must succeed.
    pub fn stop(self) -> String {
        let asked = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(asked.success(), "{} has ended by itself", self.name);
        self.finish()
    }

    /// Waits for the end of the process and returns its output. It must succeed.
    pub fn finish(mut self) -> String {
        let mut printed = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_string(&mut printed).unwrap();
        }
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{}: {status}: {printed}", self.name);
        printed
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done` returns true, with a check every 50 ms. Fails after `limit` with `what` in
/// the message.
pub fn within(limit: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until this machine has been idle for a second. Earlier work continues for a while after it
/// was answered and would use the CPUs during a measurement.
pub fn settled() {
    let started = Instant::now();
    loop {
        let before = processors::machine();
        std::thread::sleep(Duration::from_secs(1));
        if processors::machine() - before < 0.2 {
            return;
        }
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "something keeps this machine busy: what is measured now shows nothing"
        );
    }
}
