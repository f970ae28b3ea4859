//! Components as processes: start, wait for readiness, signal, stop.

use std::fs::{self, OpenOptions};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{ControlPlane, say};
use crate::process::{everything, output};

/// The limit for a component to become ready. A first start on a busy machine takes about 20 s.
const READY: Duration = Duration::from_secs(120);

/// The limit for a component to stop. After that it is killed.
const END: Duration = Duration::from_secs(30);

impl ControlPlane {
    /// Stores the command line, so that the component can be started again with it.
    pub(super) fn define(
        &self,
        name: &str,
        url: &str,
        program: &Path,
        arguments: &[String],
    ) -> Result<()> {
        let mut lines = vec![program.display().to_string()];
        lines.extend_from_slice(arguments);
        ensure!(
            !lines.iter().any(|line| line.contains('\n')),
            "an argument contains a line break"
        );
        fs::write(self.run_file(name, "url"), format!("{url}\n"))?;
        fs::write(self.run_file(name, "cmd"), lines.join("\n"))?;
        Ok(())
    }

    /// Components outlive this program, so no process waits for them. [`is_alive`] detects zombies.
    pub(super) fn start(&self, name: &str) -> Result<()> {
        let lines = fs::read_to_string(self.run_file(name, "cmd"))
            .with_context(|| format!("no component {name} in {}", self.directory.display()))?;
        ensure!(!self.alive(name), "{name} is already running");
        let mut words = lines.split('\n');
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.file(&format!("log/{name}.log")))?;
        let child = Command::new(words.next().unwrap_or_default())
            .args(words)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // An own process group: an interrupt at the terminal stops the tests, which then stop
            // the components in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(fs::write(
            self.run_file(name, "pid"),
            format!("{}\n", child.id()),
        )?)
    }

    pub(super) fn wait_ready(&self, name: &str) -> Result<()> {
        let until = Instant::now() + READY;
        while !self.ready(name)? {
            let log = self.file(&format!("log/{name}.log"));
            if !self.alive(name) {
                let text = fs::read_to_string(&log)?;
                let lines: Vec<_> = text.lines().collect();
                let end = lines[lines.len().saturating_sub(5)..].join("\n");
                bail!("{name} ended; the end of {}:\n{end}", log.display());
            }
            ensure!(
                Instant::now() < until,
                "{name} is not ready after {} s; see {}",
                READY.as_secs(),
                log.display()
            );
            sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn ready(&self, name: &str) -> Result<bool> {
        if name == "etcd" {
            return Ok(true);
        }
        if matches!(name, "scheduler" | "kwok") {
            return Ok(TcpStream::connect(("127.0.0.1", self.port(name)?)).is_ok());
        }
        if name == "controller-manager" {
            let account = ["get", "serviceaccounts", "default", "-o", "name"];
            let found = output(&mut self.kubectl(account)?);
            return Ok(found.is_ok_and(|name| name.trim() == "serviceaccount/default"));
        }
        let mut probe = Command::new(self.kubectl_path()?);
        let config = self.file(&format!("admin.{name}.kubeconfig"));
        probe
            .arg("--kubeconfig")
            .arg(config)
            .args(["get", "--raw", "/readyz"]);
        Ok(everything(&mut probe)?.0)
    }

    pub(super) fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        kill_process(self.pid(name)?, signal)
            .with_context(|| format!("cannot send a signal to {name}"))
    }

    pub(super) fn stop(&self, name: &str, signal: Signal) -> Result<()> {
        self.signal(name, signal)?;
        self.wait_end(name)
    }

    fn wait_end(&self, name: &str) -> Result<()> {
        let mut until = Instant::now() + END;
        while self.alive(name) {
            if Instant::now() >= until {
                say(&format!(
                    "{name} did not stop within {} s: killing it",
                    END.as_secs()
                ));
                // The process may have ended in the meantime.
                let _ = self.signal(name, Signal::KILL);
                until = Instant::now() + END;
            }
            sleep(Duration::from_millis(50));
        }
        Ok(fs::remove_file(self.run_file(name, "pid"))?)
    }

    /// Stops the components that write first, and etcd last.
    pub(crate) fn down(&self) -> Result<()> {
        let mut names = self.started();
        names.sort_by_key(|name| match name.as_str() {
            "controller-manager" | "scheduler" | "kwok" => 0,
            "etcd" => 2,
            _ => 1,
        });
        for name in names {
            if self.alive(&name) {
                // A process stopped by SIGSTOP must continue to handle the next signal.
                self.signal(&name, Signal::CONT)?;
                self.stop(&name, Signal::TERM)?;
            } else {
                fs::remove_file(self.run_file(&name, "pid"))?;
            }
        }
        Ok(())
    }

    pub(super) fn pid(&self, name: &str) -> Result<Pid> {
        let text = fs::read_to_string(self.run_file(name, "pid"))
            .with_context(|| format!("{name} is not running"))?;
        let number = text.trim().parse()?;
        Pid::from_raw(number).with_context(|| format!("the process id of {name} is invalid"))
    }

    pub(super) fn alive(&self, name: &str) -> bool {
        self.pid(name)
            .is_ok_and(|pid| is_alive(Path::new(&format!("/proc/{}", pid.as_raw_nonzero()))))
    }

    /// The components that were started and not stopped, sorted by name.
    pub(super) fn started(&self) -> Vec<String> {
        // Without the folder there are no components.
        self.names("pid").unwrap_or_default()
    }

    /// All components, started or not.
    pub(super) fn defined(&self) -> Result<Vec<String>> {
        self.names("cmd")
    }

    fn names(&self, extension: &str) -> Result<Vec<String>> {
        let folder = self.file("run");
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        let mut names = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|found| found == extension) {
                names.extend(
                    path.file_stem()
                        .map(|stem| stem.to_string_lossy().into_owned()),
                );
            }
        }
        names.sort();
        Ok(names)
    }

    fn run_file(&self, name: &str, extension: &str) -> std::path::PathBuf {
        self.file(&format!("run/{name}.{extension}"))
    }
}

/// Whether the process of this folder in `/proc` is alive. A zombie (ended, but not waited for) is
/// not alive, unless one of its threads still has its sockets open.
fn is_alive(process: &Path) -> bool {
    let Ok(stat) = fs::read_to_string(process.join("stat")) else {
        return false;
    };
    // The process name in parentheses may contain parentheses and spaces.
    let zombie = stat
        .rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('Z'));
    !zombie || fs::read_dir(process.join("task")).is_ok_and(|tasks| tasks.count() > 1)
}

/// Parses the name of a signal.
pub(super) fn signal(name: &str) -> Result<Signal> {
    Ok(match name.strip_prefix("SIG").unwrap_or(name) {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "KILL" => Signal::KILL,
        "TERM" => Signal::TERM,
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        _ => bail!("one of HUP, INT, QUIT, KILL, TERM, STOP, CONT, USR1, USR2"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane() -> (tempfile::TempDir, ControlPlane) {
        let folder = tempfile::tempdir().unwrap();
        let plane = ControlPlane::new(folder.path(), None).unwrap();
        for name in ["run", "log"] {
            fs::create_dir(plane.file(name)).unwrap();
        }
        (folder, plane)
    }

    fn define(plane: &ControlPlane, name: &str, script: &str) {
        let arguments = ["-c".into(), script.into()];
        plane
            .define(name, "http://127.0.0.1:1", Path::new("/bin/sh"), &arguments)
            .unwrap();
    }

    #[test]
    fn a_component_restarts_with_the_same_command() {
        let (_folder, plane) = plane();
        define(&plane, "one", "echo started; exec sleep 60");
        let starts = || {
            fs::read_to_string(plane.file("log/one.log"))
                .unwrap()
                .lines()
                .count()
        };
        for round in 1..=2 {
            plane.start("one").unwrap();
            assert!(plane.alive("one"));
            let again = plane.start("one").unwrap_err().to_string();
            assert!(again.contains("already running"), "{again}");
            while starts() < round {
                sleep(Duration::from_millis(10));
            }
            plane.stop("one", Signal::TERM).unwrap();
            assert!(!plane.alive("one"));
            assert!(plane.pid("one").is_err());
        }
        assert_eq!(starts(), 2);
    }

    #[test]
    fn down_ends_stopped_processes_and_forgets_ended_ones() {
        let (_folder, plane) = plane();
        define(&plane, "etcd", "exec sleep 60");
        define(&plane, "apiserver-0", "exec sleep 60");
        define(&plane, "gone", "exit 0");
        for name in ["etcd", "apiserver-0", "gone"] {
            plane.start(name).unwrap();
        }
        plane.signal("apiserver-0", Signal::STOP).unwrap();
        while plane.alive("gone") {}
        assert_eq!(plane.started(), ["apiserver-0", "etcd", "gone"]);
        plane.down().unwrap();
        assert!(plane.started().is_empty());
        assert_eq!(plane.defined().unwrap(), ["apiserver-0", "etcd", "gone"]);
    }

    #[test]
    fn waiting_stops_when_a_component_ends() {
        let (_folder, plane) = plane();
        define(&plane, "etcd", "true");
        // etcd has no readiness check.
        plane.start("etcd").unwrap();
        plane.wait_ready("etcd").unwrap();
        assert!(
            plane
                .start("two")
                .unwrap_err()
                .to_string()
                .contains("no component two")
        );
    }

    #[test]
    fn signals_have_their_usual_names() {
        assert_eq!(signal("KILL").unwrap(), Signal::KILL);
        assert_eq!(signal("SIGSTOP").unwrap(), Signal::STOP);
        assert!(signal("NONE").is_err());
    }
}
