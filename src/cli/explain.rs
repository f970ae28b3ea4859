//! `explain`: shows how the proxy would treat a captured answer, or how it treated the last
//! creates.
//!
//! It parses the capture, calls the same [`classify`] and [`verdict`] as the proxy, and lists the
//! pauses. [`explain`] is pure. [`run`] reads the files, or the decisions of a running proxy, and
//! prints.

pub mod audit;
mod capture;
mod decided;
mod error;
mod folded;
mod found;
mod pasted;
mod request;
mod shown;
mod signs;
mod told;
mod transfer;
mod words;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
pub use error::ExplainError;
use found::Found;
pub use found::Source;
use http::StatusCode;
pub use request::Request;

use super::{AdminError, CliError, printable};
use crate::backoff::{Backoff, ReplayLimits, Spent};
use crate::config::file::{self, FileError};
use crate::config::{Config, Mode};
use crate::create::CreateSettings;
use crate::status::{Encoding, Status};
use crate::verdict::{Class, ClassifiedAnswer, Verdict, classify, verdict};

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
  1  nothing to explain, an audit log without an answer to a create, or a file or the proxy could
     not be read
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
    #[arg(
        long,
        short,
        value_name = "NAMESPACE",
        requires = "admin_address",
        // clap does not require what conflicts with an argument that is given.
        conflicts_with_all = ["file", "audit_log"]
    )]
    pub namespace: Option<String>,
    /// Explain at most this many creates.
    #[arg(
        long,
        value_name = "N",
        requires = "admin_address",
        conflicts_with_all = ["file", "audit_log"]
    )]
    pub limit: Option<u32>,
    /// The audit log to read instead.
    #[command(flatten)]
    pub audit: audit::AuditArgs,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum ExplainCommandError {
    /// The capture could not be read.
    #[error("cannot read {}", named(path))]
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
    #[error("{} cannot be explained", named(path))]
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
        return match printed.map_err(CliError::Stdout)? {
            0 => Ok(ExitCode::FAILURE),
            _ => Ok(ExitCode::SUCCESS),
        };
    }
    let path = &args.file;
    let raw = if path.as_os_str() == "-" {
        read(&mut io::stdin().lock())
    } else {
        File::open(path).and_then(|mut file| read(&mut file))
    };
    let raw = raw.map_err(|source| ExplainCommandError::Read {
        path: path.clone(),
        source,
    })?;
    if let Some(decisions) = decided::parse(&raw) {
        return decided::print(&decisions, out);
    }
    let explained = explain(&raw, &load(args)?);
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

/// How much of a capture is read. A longer one is a log, and a part of it is enough.
const MOST: u64 = 64 << 20;

/// Reads a capture up to a bound.
fn read(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    input.take(MOST).read_to_end(&mut raw)?;
    Ok(raw)
}

/// A file for people.
fn named(path: &Path) -> String {
    if path.as_os_str() == "-" {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
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
    /// The request that got the answer, if the capture shows it.
    pub request: Option<Request>,
    /// The text tells of an update, whose conflict says nothing about a create.
    pub of_update: bool,
    /// Why the proxy would not replay the request, whatever the answer.
    pub why_not: Option<String>,
    /// What the proxy does about creates. It replays only with `Enforce`.
    pub mode: Mode,
    /// Whether the proxy would relay or replay.
    pub verdict: Verdict,
    /// What the class alone says: the verdict for a create that may be replayed.
    pub would: Verdict,
    /// The pauses if every attempt got the same answer. Empty: the answer is relayed.
    pub plan: Vec<Pause>,
    /// The attempts that the limits allow.
    pub max_attempts: u32,
    /// The longest hold that the limits allow.
    pub max_hold: Duration,
    /// How long the client waits.
    pub timeout: Option<Duration>,
    /// The capture is longer than what was read of it.
    pub cut: bool,
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

/// Explains `raw`: a status line, headers, an empty line and a body, with CRLF or LF. The body
/// alone is enough if it is a Status, and so is a text that has a Status or its message.
///
/// # Errors
/// The capture is not an HTTP answer; the error says where.
pub fn explain(raw: &[u8], config: &Config) -> Result<Explanation, ExplainError> {
    if raw.trim_ascii().is_empty() {
        return Err(ExplainError::Empty);
    }
    let settings = CreateSettings::new(config);
    let found = Found::within(raw)?;
    let answer = classify(found.code, &found.headers, &found.body);
    let request = Request::within(raw, found.code);
    let why_not = request
        .as_ref()
        .and_then(|request| request.why_not(&config.creates));
    let replays = !found.compressed && why_not.is_none() && settings.mode == Mode::Enforce;
    let by_class = verdict(&answer, &settings.policy);
    let limits = settings.limits(answer.class);
    let timeout = request.as_ref().and_then(Request::timeout);
    let plan = match by_class {
        Verdict::Replay { wait_at_least, .. } if replays => {
            plan(wait_at_least, &settings.backoff, &limits, timeout)
        }
        _ => Vec::new(),
    };
    Ok(Explanation {
        code: found.code,
        source: found.source,
        compressed: found.compressed,
        broken_off: found.broken_off,
        others: found.others,
        status: found.status,
        of_update: request.is_none() && request::tells_of_update(raw),
        request,
        why_not,
        mode: settings.mode,
        verdict: if replays { by_class } else { Verdict::Relay },
        would: by_class,
        answer,
        plan,
        max_attempts: limits.max_attempts,
        max_hold: limits.max_hold,
        timeout,
        cut: raw.len() as u64 >= MOST,
    })
}

/// The pauses until all attempts are used, or until even the shortest pauses exceed the hold or the
/// client's own timeout.
fn plan(
    at_least: Duration,
    backoff: &Backoff,
    limits: &ReplayLimits,
    timeout: Option<Duration>,
) -> Vec<Pause> {
    let mut plan = Vec::new();
    let (mut least, mut most) = (Duration::ZERO, Duration::ZERO);
    for replay in 1..limits.max_attempts {
        let (from, to) = (
            backoff.delay(replay, 0.0, at_least),
            backoff.delay(replay, 1.0, at_least),
        );
        // The longest hold ends with a pause that just fits.
        let longest = timeout.map_or(limits.max_hold, |timeout| timeout.min(limits.max_hold));
        most = most.saturating_add(to).min(longest);
        let spent = Spent {
            attempts: replay,
            elapsed: least,
            longest: Duration::ZERO,
        };
        let remaining = timeout.map(|timeout| timeout.saturating_sub(least));
        match limits.next(spent, remaining, from) {
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
