//! `explain`: what the proxy would do about an answer that somebody captured, e.g. with `curl -i`,
//! or what it did about the last creates.
//!
//! Takes the capture apart, asks the same [`classify`] and [`verdict`] that serve, and lays out the
//! pauses. [`explain`] is pure; [`run`] reads the files, or the decisions of a running proxy, and
//! prints.

mod capture;
mod decided;

use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use capture::Captured;
use clap::Args;
use http::StatusCode;

use super::{AdminError, Error, printable};
use crate::backoff::{Backoff, Limits, Spent};
use crate::config::file::{self, FileError};
use crate::create::Settings;
use crate::status::{Encoding, Status};
use crate::verdict::{Class, ClassifiedAnswer, Policy, Verdict, classify, verdict};

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  curl -isk -X POST … https://apiserver/api/v1/namespaces/ns/pods | kube-retry-proxy explain
  kube-retry-proxy explain --config config.yaml answer.http
  kube-retry-proxy explain --admin-address localhost:8080 --namespace argo
  curl -s localhost:8080/debug/decisions | kube-retry-proxy explain")]
pub struct ExplainArgs {
    /// The captured answer, `-` for stdin: a raw HTTP answer, only its body, or what
    /// /debug/decisions answered.
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
    /// The configuration whose opt-ins and limits count [default: the defaults].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Explain the last creates of the running proxy with this admin port instead, newest first.
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["file", "config"])]
    pub admin_address: Option<String>,
    /// Only the creates of this namespace.
    #[arg(long, short, value_name = "NAMESPACE", requires = "admin_address")]
    pub namespace: Option<String>,
    /// At most so many creates.
    #[arg(long, value_name = "N", requires = "admin_address")]
    pub limit: Option<u32>,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum ExplainCommandError {
    /// The capture could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file, or `-`.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The configuration could not be read.
    #[error("--config cannot be used")]
    Config(#[from] FileError),
    /// The running proxy was not reached.
    #[error("the decisions cannot be read")]
    Admin(#[from] AdminError),
    /// The capture is no answer.
    #[error("{} is not usable", path.display())]
    Capture {
        /// The file, or `-`.
        path: PathBuf,
        /// What is wrong with it.
        source: ExplainError,
    },
}

/// Reads the capture and prints what the proxy makes of it.
pub fn run(args: &ExplainArgs, out: &mut impl Write) -> Result<ExitCode, Error> {
    if let Some(address) = &args.admin_address {
        let decisions = decided::fetch(address, args.namespace.as_deref(), args.limit)?;
        return decided::print(&decisions, out);
    }
    let path = &args.file;
    let raw = if path.as_os_str() == "-" {
        read(&mut io::stdin().lock())
    } else {
        std::fs::read(path)
    };
    let raw = raw.map_err(|source| ExplainCommandError::Read {
        path: path.clone(),
        source,
    })?;
    if let Some(decisions) = decided::parse(&raw) {
        return decided::print(&decisions, out);
    }
    let config = args
        .config
        .as_deref()
        .map(file::load)
        .transpose()
        .map_err(ExplainCommandError::from)?;
    let settings = Settings::new(&config.unwrap_or_default());
    let explained = explain(&raw, &settings.policy, &settings.backoff, |class| {
        settings.limits(class)
    });
    let explained = explained.map_err(|source| ExplainCommandError::Capture {
        path: path.clone(),
        source,
    })?;
    writeln!(out, "{explained}").map_err(Error::Stdout)?;
    Ok(ExitCode::SUCCESS)
}

/// All of it: a capture is an error answer, and the person at the terminal bounds it.
fn read(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    input.read_to_end(&mut raw)?;
    Ok(raw)
}

/// What became of a captured answer. `Display` prints it for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The status code.
    pub code: StatusCode,
    /// Whether the capture had no status line, so that the code comes from the Status in the body.
    pub code_from_body: bool,
    /// The Status in the body and its encoding; None where the body is something else.
    pub status: Option<(Status, Encoding)>,
    /// Its class and what the server asked for.
    pub answer: ClassifiedAnswer,
    /// What the proxy makes of it.
    pub verdict: Verdict,
    /// The pauses if every further attempt got the same answer; empty where it is relayed.
    pub plan: Vec<Pause>,
    /// The attempts that the limits allow.
    pub max_attempts: u32,
    /// The hold that the limits allow.
    pub max_hold: Duration,
}

/// One pause of the plan, before replay 1, 2, ….
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Which replay follows.
    pub replay: u32,
    /// The shortest that it can be.
    pub from: Duration,
    /// The longest that it can be.
    pub to: Duration,
    /// The longest that the create can have been held when the replay starts, attempts taking no
    /// time.
    pub held_at_most: Duration,
}

/// Why a capture cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// Nothing to explain.
    #[error(
        "the capture is empty; expected an HTTP answer, as `curl -i` prints it, or the body of one"
    )]
    Empty,
    /// The first line begins like a status line and is none.
    #[error(
        "line 1: {line:?} is no status line; expected for example \"HTTP/1.1 409 Conflict\" or \"HTTP/2 409\""
    )]
    StatusLine {
        /// The line.
        line: String,
    },
    /// A line of the head is no header.
    #[error(
        "line {number}: {line:?} is no header; expected \"Name: value\", and an empty line before the body"
    )]
    Header {
        /// Counted from 1.
        number: usize,
        /// The line.
        line: String,
    },
    /// Only interim answers (1xx).
    #[error("the capture ends after an interim answer ({code}); expected the final one behind it")]
    OnlyInterim {
        /// The interim code.
        code: u16,
    },
    /// A bare body that tells no code.
    #[error(
        "neither a status line nor a Status with a code; expected \"HTTP/1.1 CODE\" as first line, or a metav1.Status as body"
    )]
    NoCode,
}

/// Explains `raw`: status line, headers, an empty line, body; with CRLF or LF. A bare body will do
/// where it is a Status.
///
/// # Errors
/// What is wrong with the capture, and where.
pub fn explain(
    raw: &[u8],
    policy: &Policy,
    backoff: &Backoff,
    limits: impl Fn(Class) -> Limits,
) -> Result<Explanation, ExplainError> {
    if raw.trim_ascii().is_empty() {
        return Err(ExplainError::Empty);
    }
    let captured = Captured::parse(raw)?;
    let status =
        Status::decode(captured.body).map(|status| (status, Encoding::sniff(captured.body)));
    let code = match (captured.code, &status) {
        (Some(code), _) => code,
        (None, Some((status, _))) => {
            StatusCode::from_u16(status.code).map_err(|_| ExplainError::NoCode)?
        }
        (None, None) => return Err(ExplainError::NoCode),
    };
    let answer = classify(code, &captured.headers, captured.body);
    let verdict = verdict(&answer, policy);
    let limits = limits(answer.class);
    let plan = match verdict {
        Verdict::Relay => Vec::new(),
        Verdict::Replay { wait_at_least, .. } => plan(wait_at_least, backoff, &limits),
    };
    let (max_attempts, max_hold) = (limits.max_attempts, limits.max_hold);
    Ok(Explanation {
        code,
        code_from_body: captured.code.is_none(),
        status,
        answer,
        verdict,
        plan,
        max_attempts,
        max_hold,
    })
}

/// Until the attempts end, or until even the shortest pauses exceed the hold.
fn plan(at_least: Duration, backoff: &Backoff, limits: &Limits) -> Vec<Pause> {
    let mut plan = Vec::new();
    let (mut least, mut most) = (Duration::ZERO, Duration::ZERO);
    for replay in 1..limits.max_attempts {
        let (from, to) = (
            backoff.delay(replay, 0.0, at_least),
            backoff.delay(replay, 1.0, at_least),
        );
        // The worst case is a pause that ends just within the hold.
        most = most.saturating_add(to).min(limits.max_hold);
        let spent = Spent {
            attempts: replay,
            elapsed: least,
            longest: Duration::ZERO,
        };
        match limits.next(spent, None, from) {
            Ok(_) => plan.push(Pause {
                replay,
                from,
                to,
                held_at_most: most,
            }),
            Err(_) => break,
        }
        least = least.saturating_add(from);
    }
    plan
}

/// As Debug has it, but nothing is `0s`, not `0ns`.
fn readable(duration: Duration) -> String {
    if duration.is_zero() {
        "0s".to_owned()
    } else {
        format!("{duration:?}")
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = if self.code_from_body {
            " (from the body: the capture has no status line)"
        } else {
            ""
        };
        writeln!(f, "code      {}{source}", self.code)?;
        match &self.status {
            Some((status, encoding)) => {
                writeln!(f, "body      a metav1.Status in {}", encoding.media_type())?;
                writeln!(f, "message   {}", printable(&status.message))?;
            }
            None => writeln!(f, "body      not a metav1.Status")?,
        }
        let class = self.answer.class;
        writeln!(f, "class     {}", class.as_str())?;
        writeln!(f, "why       {}", class.why())?;
        writeln!(f, "safety    {}", class.safety().as_str())?;
        if let Some(wait) = self.answer.retry_after {
            writeln!(f, "asked     to wait {}", readable(wait))?;
        }
        match self.verdict {
            Verdict::Relay => writeln!(f, "verdict   relay"),
            Verdict::Replay {
                on_another_server, ..
            } => {
                writeln!(
                    f,
                    "verdict   replay{}",
                    if on_another_server {
                        ", on another connection"
                    } else {
                        ""
                    }
                )?;
                self.fmt_plan(f)
            }
        }
    }
}

impl Explanation {
    fn fmt_plan(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.plan.is_empty() {
            return writeln!(
                f,
                "plan      none: {} attempts within {} leave no room for a replay",
                self.max_attempts,
                readable(self.max_hold)
            );
        }
        writeln!(
            f,
            "plan      at most {} attempts within {}",
            self.max_attempts,
            readable(self.max_hold)
        )?;
        for pause in &self.plan {
            let range = format!("{} to {}", readable(pause.from), readable(pause.to));
            writeln!(
                f,
                "  replay {:<3} after {range:<20} held at most {}",
                pause.replay,
                readable(pause.held_at_most)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
