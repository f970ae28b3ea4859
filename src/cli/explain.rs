//! `explain`: shows how the proxy would treat a captured answer, or how it treated the last
//! creates.
//!
//! It parses the capture, calls the same [`classify`] and [`verdict`] as the proxy, and lists the
//! pauses. [`explain`] is pure. [`run`] reads the files, or the decisions of a running proxy, and
//! prints.

pub mod audit;
mod capture;
mod decided;
mod folded;
mod found;
mod pasted;
mod shown;
mod told;
mod transfer;
mod words;

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use found::Found;
pub use found::Source;
use http::StatusCode;

use super::{AdminError, CliError, printable};
use crate::backoff::{Backoff, ReplayLimits, Spent};
use crate::config::Config;
use crate::config::file::{self, FileError};
use crate::create::CreateSettings;
use crate::status::{Encoding, Status};
use crate::verdict::{Class, ClassifiedAnswer, Policy, Verdict, classify, verdict};

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  curl -isk -X POST … https://apiserver/api/v1/namespaces/ns/pods | kube-retry-proxy explain
  kubectl create -f pod.yaml -v=8 2>&1 | kube-retry-proxy explain
  kube-retry-proxy explain --config config.yaml answer.http
  kube-retry-proxy explain --admin-address localhost:8080 --namespace argo
  curl -s localhost:8080/debug/decisions | kube-retry-proxy explain
  kube-retry-proxy explain --audit-log /var/log/kubernetes/audit*.log

Exit codes:
  0  explained
  1  nothing to explain, or a file or the proxy could not be read
  2  wrong usage")]
pub struct ExplainArgs {
    /// The captured answer, or `-` for stdin: an HTTP answer as `curl -i` or `curl -v` prints it,
    /// its body alone, the line of a log or an exception that has the message, or the output of
    /// /debug/decisions.
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
    /// The configuration with the opt-ins and limits to use [default: the proxy's defaults].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Instead, explain the last creates of the running proxy with this admin port, newest first.
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["file", "config"])]
    pub admin_address: Option<String>,
    /// Explain only the creates of this namespace.
    #[arg(long, short, value_name = "NAMESPACE", requires = "admin_address")]
    pub namespace: Option<String>,
    /// Explain at most this many creates.
    #[arg(long, value_name = "N", requires = "admin_address")]
    pub limit: Option<u32>,
    /// The audit log to read instead.
    #[command(flatten)]
    pub audit: audit::AuditArgs,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum ExplainCommandError {
    /// The capture could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file, or `-`.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The configuration could not be read.
    #[error("--config cannot be used")]
    Config(#[from] FileError),
    /// The running proxy did not answer.
    #[error("cannot read the decisions")]
    Admin(#[from] AdminError),
    /// The audit log could not be read.
    #[error("the audit log cannot be explained")]
    Audit(#[from] audit::AuditError),
    /// The capture is not an HTTP answer.
    #[error("{} cannot be explained", path.display())]
    Capture {
        /// The file, or `-`.
        path: PathBuf,
        /// The reason, with its line.
        source: ExplainError,
    },
}

/// Reads the capture and prints what the proxy would do.
pub fn run(args: &ExplainArgs, out: &mut impl Write) -> Result<ExitCode, CliError> {
    if let Some(address) = &args.admin_address {
        let decisions = decided::fetch(address, args.namespace.as_deref(), args.limit)?;
        return decided::print(&decisions, out);
    }
    if !args.audit.audit_log.is_empty() {
        let config = load(args)?;
        let printed = audit::run(&args.audit, &config, out).map_err(ExplainCommandError::from)?;
        printed.map_err(CliError::Stdout)?;
        return Ok(ExitCode::SUCCESS);
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
    let settings = CreateSettings::new(&load(args)?);
    let explained = explain(&raw, &settings.policy, &settings.backoff, |class| {
        settings.limits(class)
    });
    let explained = explained.map_err(|source| ExplainCommandError::Capture {
        path: path.clone(),
        source,
    })?;
    writeln!(out, "{explained}").map_err(CliError::Stdout)?;
    Ok(ExitCode::SUCCESS)
}

/// The configuration of `--config`, or the defaults.
fn load(args: &ExplainArgs) -> Result<Config, ExplainCommandError> {
    let config = args.config.as_deref().map(file::load).transpose()?;
    Ok(config.unwrap_or_default())
}

/// Reads everything. A capture is small, and the user can interrupt the command.
fn read(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    input.read_to_end(&mut raw)?;
    Ok(raw)
}

/// How the proxy would treat a captured answer. `Display` prints it for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The status code.
    pub code: StatusCode,
    /// Where the answer comes from.
    pub source: Source,
    /// The body is compressed, so the proxy cannot read it and relays it.
    pub compressed: bool,
    /// How the capture breaks off.
    pub broken_off: Option<String>,
    /// The classes of the other answers that the text tells of, one each.
    pub others: Vec<Class>,
    /// The Status in the body and its encoding. None: the body is something else.
    pub status: Option<(Status, Encoding)>,
    /// The class of the answer, and how long the server asked to wait.
    pub answer: ClassifiedAnswer,
    /// Whether the proxy would relay or replay.
    pub verdict: Verdict,
    /// The pauses if every attempt got the same answer. Empty: the answer is relayed.
    pub plan: Vec<Pause>,
    /// The attempts that the limits allow.
    pub max_attempts: u32,
    /// The longest hold that the limits allow.
    pub max_hold: Duration,
}

/// One pause of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// The number of the replay that follows, counted from 1.
    pub replay: u32,
    /// The shortest possible pause.
    pub from: Duration,
    /// The longest possible pause.
    pub to: Duration,
    /// How long the create can have been held at most when the replay starts, if attempts take no
    /// time.
    pub held_at_most: Duration,
}

/// Why a capture cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// The capture is empty.
    #[error(
        "the capture is empty; expected an HTTP answer, as `curl -i` prints it, or the body of one"
    )]
    Empty,
    /// The first line starts with `HTTP/` and is not a status line.
    #[error(
        "line 1: {line:?} is not a status line; expected, for example, \"HTTP/1.1 409 Conflict\" or \"HTTP/2 409\""
    )]
    StatusLine {
        /// The start of the line.
        line: String,
    },
    /// A line of the head is not a header.
    #[error(
        "line {number}: {line:?} is not a header; expected \"Name: value\", and an empty line before the body"
    )]
    Header {
        /// The number of the line, counted from 1.
        number: usize,
        /// The start of the line.
        line: String,
    },
    /// The capture has only interim answers (1xx).
    #[error(
        "the capture ends after an interim answer ({code}); expected the final answer after it"
    )]
    OnlyInterim {
        /// The interim code.
        code: u16,
    },
    /// The capture is a body without a code.
    #[error(
        "the capture has neither a status line nor a Status with a code, nor a message that kube-apiserver writes; expected a first line like \"HTTP/1.1 409 Conflict\", a metav1.Status, or a log with a line like \"Error from server (Conflict): Operation cannot be fulfilled on …\""
    )]
    NoCode,
    /// The body has a coding that is not gzip.
    #[error(
        "the body is compressed ({coding}), which cannot be read here; expected gzip or none, as `curl --compressed -i` prints it"
    )]
    Coding {
        /// The value of `Content-Encoding`.
        coding: String,
    },
    /// The body or the file starts as gzip and is something else.
    #[error("the gzip data of the capture cannot be read: {why}")]
    Gzip {
        /// The reason of the decompressor.
        why: String,
    },
}

/// Explains `raw`: a status line, headers, an empty line and a body, with CRLF or LF. The body
/// alone is enough if it is a Status, and so is a text that has a Status or its message.
///
/// # Errors
/// The capture is not an HTTP answer; the error says where.
pub fn explain(
    raw: &[u8],
    policy: &Policy,
    backoff: &Backoff,
    limits: impl Fn(Class) -> ReplayLimits,
) -> Result<Explanation, ExplainError> {
    if raw.trim_ascii().is_empty() {
        return Err(ExplainError::Empty);
    }
    let found = Found::within(raw)?;
    let answer = classify(found.code, &found.headers, &found.body);
    let verdict = if found.compressed {
        Verdict::Relay
    } else {
        verdict(&answer, policy)
    };
    let limits = limits(answer.class);
    let plan = match verdict {
        Verdict::Relay => Vec::new(),
        Verdict::Replay { wait_at_least, .. } => plan(wait_at_least, backoff, &limits),
    };
    let (max_attempts, max_hold) = (limits.max_attempts, limits.max_hold);
    Ok(Explanation {
        code: found.code,
        source: found.source,
        compressed: found.compressed,
        broken_off: found.broken_off,
        others: found.others,
        status: found.status,
        answer,
        verdict,
        plan,
        max_attempts,
        max_hold,
    })
}

/// The pauses until all attempts are used, or until even the shortest pauses exceed the hold.
fn plan(at_least: Duration, backoff: &Backoff, limits: &ReplayLimits) -> Vec<Pause> {
    let mut plan = Vec::new();
    let (mut least, mut most) = (Duration::ZERO, Duration::ZERO);
    for replay in 1..limits.max_attempts {
        let (from, to) = (
            backoff.delay(replay, 0.0, at_least),
            backoff.delay(replay, 1.0, at_least),
        );
        // The longest hold ends with a pause that just fits.
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

#[cfg(test)]
mod tests;
