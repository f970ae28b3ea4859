//! Counts the instructions of a process with Valgrind's callgrind, between two moments.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Counts for one process at a time.
pub(crate) struct Counter {
    profile: PathBuf,
}

impl Counter {
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            profile: directory.join("callgrind"),
        }
    }

    /// What runs the process that is to be counted.
    pub(crate) fn command(&self) -> Vec<String> {
        vec![
            "valgrind".to_owned(),
            "--tool=callgrind".to_owned(),
            "--quiet".to_owned(),
            format!("--callgrind-out-file={}", self.profile.display()),
        ]
    }

    /// Counts from 0 again.
    pub(crate) fn begin(&self, process: u32) -> Result<()> {
        control("--zero", process)
    }

    /// The instructions since [`Self::begin`].
    pub(crate) fn end(&self, process: u32) -> Result<f64> {
        let before = self.dumps()?;
        control("--dump", process)?;
        let dumps = self.dumps()?;
        ensure!(
            dumps.len() == before.len() + 1,
            "callgrind wrote no profile"
        );
        let newest = dumps.last().context("a profile")?;
        let profile = fs::read_to_string(newest)?;
        let totals = profile
            .lines()
            .find_map(|line| line.strip_prefix("totals: "))
            .context("totals in a profile")?;
        Ok(totals.trim().parse()?)
    }

    /// The profiles, the oldest first.
    fn dumps(&self) -> Result<Vec<PathBuf>> {
        let directory = self.profile.parent().context("a directory")?;
        let mut numbered = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let number = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_prefix("callgrind."))
                .and_then(|number| number.parse::<u32>().ok());
            numbered.extend(number.map(|number| (number, path)));
        }
        numbered.sort();
        Ok(numbered.into_iter().map(|(_, path)| path).collect())
    }

    /// Moves the profiles of a contestant to `directory`.
    pub(crate) fn keep(&self, directory: &Path, name: &str) -> Result<()> {
        fs::create_dir_all(directory)?;
        for (number, path) in self.dumps()?.iter().enumerate() {
            fs::copy(path, directory.join(format!("{name}.{number}")))?;
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        for path in self.dumps().unwrap_or_default() {
            // The directory goes with its files in any case.
            let _removed = fs::remove_file(path);
        }
    }
}

fn control(action: &str, process: u32) -> Result<()> {
    let done = Command::new("callgrind_control")
        .args([action, &process.to_string()])
        .output()
        .context("callgrind_control, of Debian's valgrind")?;
    ensure!(
        done.status.success(),
        "callgrind_control {action}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}
