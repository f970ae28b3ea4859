//! `explain --audit-log`: reads the audit log of kube-apiserver and tells how many creates met a
//! quota conflict, whose they were, and how many of them the proxy would have sent again.
//!
//! [`event`] reads a line, `tally` counts, `report` prints. The classes of answers and what the
//! proxy does with them are those of `verdict` and `route`.

pub mod event;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod lines;
mod progress;
mod report;
mod tally;
mod timeline;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use self::event::{LineError, read_line};
use self::lines::{Line, Lines};
use self::progress::Progress;
use self::report::Report;
use self::tally::{Judge, Tally};
use super::super::Output;
use crate::config::Config;

/// Arguments of `explain` for audit logs.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Instead, count the creates in the audit log of kube-apiserver that met a quota conflict or
    /// were throttled: JSON lines, plain or gzip, in any order, of all apiservers together. `-` is
    /// stdin.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 1..,
        conflicts_with_all = ["file", "admin_address"]
    )]
    pub audit_log: Vec<PathBuf>,
    /// Show at most this many clients of an audit log [default: 20 in a table, all in JSON].
    #[arg(long, value_name = "N", requires = "audit_log", conflicts_with_all = ["file", "admin_address"])]
    pub top: Option<usize>,
    /// How the counts of an audit log are printed.
    #[arg(
        long,
        short,
        value_enum,
        default_value_t = Output::Table,
        requires = "audit_log",
        conflicts_with_all = ["file", "admin_address"]
    )]
    pub output: Output,
}

/// Why an audit log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file could not be opened.
    #[error("cannot read {}", super::named(path))]
    Open {
        /// The file, or `-`.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Standard input was given twice.
    #[error("`-` is given twice; standard input can be read once")]
    StdinTwice,
    /// Nothing of the files is an audit event.
    #[error(
        "there is no audit event; the first problem: {first} {problem}; expected lines like \
        {{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",…}}, which kube-apiserver writes \
        with --audit-log-format=json"
    )]
    NoEvent {
        /// The file and the line.
        first: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Reads the files and prints the counts. Returns how many creates were counted.
pub(super) fn run(
    args: &AuditArgs,
    config: &Config,
    out: &mut impl Write,
) -> Result<io::Result<u64>, AuditError> {
    let mut log = Log::new(config);
    log.read_all(&args.audit_log)?;
    if log.lines == 0
        && let Some((problem, skipped)) = log.skipped.first_key_value()
    {
        return Err(AuditError::NoEvent {
            first: skipped.first.clone(),
            problem: problem.in_words(),
        });
    }
    let report = Report::new(&log);
    let printed = match args.output {
        Output::Table => write!(out, "{}", report.text(args.top)),
        Output::Json => writeln!(out, "{}", report.json(args.top)),
    };
    Ok(printed.map(|()| log.tally.total().creates))
}

/// What was read.
struct Log {
    files: u64,
    /// Of the lines, after decompression.
    bytes: u64,
    /// Lines with audit events.
    lines: u64,
    tally: Tally,
    skipped: BTreeMap<Problem, Skipped>,
}

/// Why something was not read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Problem {
    Line(LineError),
    /// The rest of a file could not be read. It has the error of the system.
    Rest(String),
}

impl Problem {
    fn in_words(&self) -> String {
        match self {
            Problem::Line(error) => error.in_words().to_owned(),
            Problem::Rest(error) => format!("cannot be read: {error}"),
        }
    }
}

/// What was skipped for the same reason.
struct Skipped {
    count: u64,
    /// `file:line` of the first.
    first: String,
}

impl Log {
    fn new(config: &Config) -> Self {
        Self {
            files: 0,
            bytes: 0,
            lines: 0,
            tally: Tally::new(Judge::new(config)),
            skipped: BTreeMap::new(),
        }
    }

    /// Opens all files before it reads the first, because reading can take minutes.
    fn read_all(&mut self, paths: &[PathBuf]) -> Result<(), AuditError> {
        if paths.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
            return Err(AuditError::StdinTwice);
        }
        let (mut opened, mut total) = (Vec::new(), 0);
        for path in paths {
            let failed = |source| AuditError::Open {
                path: path.clone(),
                source,
            };
            let (input, size) = lines::open(path).map_err(failed)?;
            opened.push((path, input));
            total += size;
        }
        let mut progress = Progress::new(total);
        for (path, input) in opened {
            self.read(path, progress.watch(input));
        }
        Ok(())
    }

    /// Reads a file as far as it can be read.
    fn read(&mut self, path: &Path, input: impl Read) {
        self.files += 1;
        let mut number = 0;
        if let Err(error) = self.read_lines(path, input, &mut number) {
            self.skip(Problem::Rest(error.to_string()), path, number + 1);
        }
    }

    fn read_lines(&mut self, path: &Path, input: impl Read, last: &mut u64) -> io::Result<()> {
        let mut lines = Lines::new(lines::plain(input)?);
        while let Some(Line { number, bytes }) = lines.next()? {
            *last = number;
            let Some(bytes) = bytes else {
                self.skip(Problem::Line(LineError::TooLong), path, number);
                continue;
            };
            self.bytes += bytes.len() as u64 + 1;
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            match read_line(bytes, |event| self.tally.count(&event)) {
                Ok(()) => self.lines += 1,
                Err(error) => self.skip(Problem::Line(error), path, number),
            }
        }
        Ok(())
    }

    fn skip(&mut self, problem: Problem, path: &Path, line: u64) {
        let first = || Skipped {
            count: 0,
            first: format!("{}:{line}", path.display()),
        };
        self.skipped.entry(problem).or_insert_with(first).count += 1;
    }
}

#[cfg(test)]
mod tests;
