//! Processes that end with whoever started them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::processors;

/// What a command prints on stdout; it must succeed. Its stderr goes through.
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

/// A process in the background. Killed when dropped.
pub struct Running {
    name: &'static str,
    child: Child,
    /// Lines of its stderr, where it has no log.
    said: Option<Receiver<String>>,
    /// Where both its outputs go, where it has one.
    log: Option<PathBuf>,
}

impl Running {
    /// Keeps its stdout for [`Running::finish`]; its stderr goes through, and to [`Running::says`].
    pub fn start(name: &'static str, command: &mut Command) -> Self {
        let mut running = Self::spawn(name, command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let stderr = BufReader::new(running.child.stderr.take().unwrap());
        let (say, said) = channel();
        running.said = Some(said);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("{name}: {line}");
                // Nobody need listen.
                let _ = say.send(line);
            }
        });
        running
    }

    /// Both its outputs go to a file, afresh.
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

    /// Waits for this line on its stderr.
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

    /// Fails if it has ended, with how it did and the closing lines of its log: a machine whose
    /// files nobody keeps has no more to tell.
    pub fn assert_running(&mut self) {
        const LINES: usize = 40;
        if let Some(status) = self.child.try_wait().unwrap() {
            let log = self
                .log
                .as_deref()
                .map_or_else(String::new, |log| fs::read_to_string(log).unwrap());
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
            panic!(
                "{} ended by itself, {status}. The end of its log:\n{end}",
                self.name
            );
        }
    }

    /// What `/proc` knows it by.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, waits for that, and returns what it printed; it must succeed.
    pub fn stop(self) -> String {
        let asked = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(asked.success(), "{} has ended by itself", self.name);
        self.finish()
    }

    /// Waits for its end and returns what it printed; it must succeed.
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
        // Both fail where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done`, which is looked at every 50 ms; fails after `limit` with what was waited
/// for.
pub fn within(limit: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until this machine has been idle for a second: whatever came before goes on for a while
/// after it has been answered, and would share the processors with what is to be measured.
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
