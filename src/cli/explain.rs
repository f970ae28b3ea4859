//! `explain`: what the proxy would do about an answer that somebody captured, e.g. with `curl -i`, or what it did about the last creates.
//!
//! Parses the capture, asks the same [`classify`] and [`verdict`] that serve, and lays out the pauses. [`explain`] is pure; [`run`] reads
//! the files, or the decisions of a running proxy, and prints.

mod decided;

use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{AdminError, Error, printable};
use crate::backoff::{Backoff, Limits};
use crate::config::file::{self, FileError};
use crate::create::Settings;
use crate::status::{Encoding, Status};
use crate::verdict::{Answer, Class, Policy, Verdict, classify, verdict};

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  curl -isk -X POST … https://apiserver/api/v1/namespaces/ns/pods | kube-retry-proxy explain
  kube-retry-proxy explain --config config.yaml answer.http
  kube-retry-proxy explain --admin-address localhost:8080 --namespace argo
  curl -s localhost:8080/debug/decisions | kube-retry-proxy explain")]
pub struct ExplainArgs {
    /// The captured answer, `-` for stdin: a raw HTTP answer, only its body, or what /debug/decisions answered.
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
    let raw = if path.as_os_str() == "-" { read(&mut io::stdin().lock()) } else { std::fs::read(path) };
    let raw = raw.map_err(|source| ExplainCommandError::Read { path: path.clone(), source })?;
    if let Some(decisions) = decided::parse(&raw) {
        return decided::print(&decisions, out);
    }
    let config = args.config.as_deref().map(file::load).transpose().map_err(ExplainCommandError::from)?;
    let settings = Settings::new(&config.unwrap_or_default());
    let explained = explain(&raw, &settings.policy, &settings.backoff, |class| settings.limits(class));
    let explained = explained.map_err(|source| ExplainCommandError::Capture { path: path.clone(), source })?;
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
    pub answer: Answer,
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
    /// The longest that the create can have been held when the replay starts, attempts taking no time.
    pub held_at_most: Duration,
}

/// Why a capture cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// Nothing to explain.
    #[error("the capture is empty; expected an HTTP answer, as `curl -i` prints it, or the body of one")]
    Empty,
    /// The first line begins like a status line and is none.
    #[error("line 1: {line:?} is no status line; expected for example \"HTTP/1.1 409 Conflict\" or \"HTTP/2 409\"")]
    StatusLine {
        /// The line.
        line: String,
    },
    /// A line of the head is no header.
    #[error("line {number}: {line:?} is no header; expected \"Name: value\", and an empty line before the body")]
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
    #[error("neither a status line nor a Status with a code; expected \"HTTP/1.1 CODE\" as first line, or a metav1.Status as body")]
    NoCode,
}

/// Explains `raw`: status line, headers, an empty line, body; with CRLF or LF. A bare body will do where it is a Status.
///
/// # Errors
/// What is wrong with the capture, and where.
pub fn explain(raw: &[u8], policy: &Policy, backoff: &Backoff, limits: impl Fn(Class) -> Limits) -> Result<Explanation, ExplainError> {
    if raw.trim_ascii().is_empty() {
        return Err(ExplainError::Empty);
    }
    let captured = Captured::parse(raw)?;
    let status = Status::decode(captured.body).map(|status| (status, Encoding::sniff(captured.body)));
    let code = match (captured.code, &status) {
        (Some(code), _) => code,
        (None, Some((status, _))) => StatusCode::from_u16(status.code).map_err(|_| ExplainError::NoCode)?,
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
    Ok(Explanation { code, code_from_body: captured.code.is_none(), status, answer, verdict, plan, max_attempts, max_hold })
}

/// Until the attempts end, or until even the shortest pauses exceed the hold.
fn plan(at_least: Duration, backoff: &Backoff, limits: &Limits) -> Vec<Pause> {
    let mut plan = Vec::new();
    let (mut least, mut most) = (Duration::ZERO, Duration::ZERO);
    for replay in 1..limits.max_attempts {
        let (from, to) = (backoff.delay(replay, 0.0, at_least), backoff.delay(replay, 1.0, at_least));
        // The worst case is a pause that ends just within the hold.
        most = most.saturating_add(to).min(limits.max_hold);
        match limits.next(replay, least, None, from) {
            Ok(_) => plan.push(Pause { replay, from, to, held_at_most: most }),
            Err(_) => break,
        }
        least = least.saturating_add(from);
    }
    plan
}

struct Captured<'a> {
    code: Option<StatusCode>,
    headers: HeaderMap,
    body: &'a [u8],
}

impl<'a> Captured<'a> {
    fn parse(raw: &'a [u8]) -> Result<Captured<'a>, ExplainError> {
        let mut lines = Lines { rest: raw, number: 0 };
        loop {
            if !lines.rest.starts_with(b"HTTP/") {
                // The body of a capture without a head.
                return Ok(Captured { code: None, headers: HeaderMap::new(), body: lines.rest });
            }
            let line = lines.next().unwrap_or_default();
            let code = status_code(line).ok_or_else(|| ExplainError::StatusLine { line: shown(line) })?;
            let headers = headers(&mut lines)?;
            // `curl -i` prints `100 Continue`, and a proxy's `200 Connection established`, before the answer itself.
            let followed = lines.rest.starts_with(b"HTTP/");
            if code.is_informational() && !followed {
                return Err(ExplainError::OnlyInterim { code: code.as_u16() });
            }
            if !followed {
                return Ok(Captured { code: Some(code), headers, body: lines.rest });
            }
        }
    }
}

/// Lines without their ends, and what is left behind them.
struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|b| *b == b'\n').unwrap_or(self.rest.len());
        let line = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        self.number += 1;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// The code in `HTTP/1.1 409 Conflict` or `HTTP/2 409 `.
fn status_code(line: &[u8]) -> Option<StatusCode> {
    let code = line.split(|b| *b == b' ').filter(|word| !word.is_empty()).nth(1)?;
    StatusCode::from_bytes(code).ok()
}

fn headers(lines: &mut Lines<'_>) -> Result<HeaderMap, ExplainError> {
    let mut headers = HeaderMap::new();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            break;
        }
        let parsed = line.iter().position(|b| *b == b':').and_then(|colon| {
            let name = HeaderName::from_bytes(line[..colon].trim_ascii_end()).ok()?;
            Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
        });
        let (name, value) = parsed.ok_or_else(|| ExplainError::Header { number: lines.number, line: shown(line) })?;
        // More than the map can hold are no answer of an apiserver.
        headers.try_append(name, value).map_err(|_| ExplainError::Header { number: lines.number, line: shown(line) })?;
    }
    Ok(headers)
}

/// As Debug has it, but nothing is `0s`, not `0ns`.
fn readable(duration: Duration) -> String {
    if duration.is_zero() { "0s".to_owned() } else { format!("{duration:?}") }
}

/// The beginning of a line that came from anywhere.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(240)]).into_owned();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = if self.code_from_body { " (from the body: the capture has no status line)" } else { "" };
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
            Verdict::Replay { elsewhere, .. } => {
                writeln!(f, "verdict   replay{}", if elsewhere { ", on another connection" } else { "" })?;
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
        writeln!(f, "plan      at most {} attempts within {}", self.max_attempts, readable(self.max_hold))?;
        for pause in &self.plan {
            let range = format!("{} to {}", readable(pause.from), readable(pause.to));
            writeln!(f, "  replay {:<3} after {range:<20} held at most {}", pause.replay, readable(pause.held_at_most))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Class;
    use proptest::prelude::*;

    const BACKOFF: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(2) };
    const LIMITS: Limits = Limits { max_attempts: 8, max_hold: Duration::from_secs(8) };

    fn explained(raw: impl AsRef<[u8]>) -> Result<Explanation, ExplainError> {
        explain(raw.as_ref(), &Policy::default(), &BACKOFF, |_| LIMITS)
    }

    fn sample(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/tests/samples/{name}.http", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn explains_a_quota_conflict() {
        let text = explained(sample("quota_conflict_409_protobuf")).unwrap().to_string();
        let expected = r#"code      409 Conflict
body      a metav1.Status in application/vnd.kubernetes.protobuf
message   Operation cannot be fulfilled on resourcequotas "compute-quota": the object has been modified; please apply your changes to the latest version and try again
class     quota_conflict
why       Another writer updated the ResourceQuota at the same time; quota is checked before anything is stored, so the object was not.
safety    safe
verdict   replay
plan      at most 8 attempts within 8s
  replay 1   after 0s to 100ms          held at most 100ms
  replay 2   after 0s to 200ms          held at most 300ms
  replay 3   after 0s to 400ms          held at most 700ms
  replay 4   after 0s to 800ms          held at most 1.5s
  replay 5   after 0s to 1.6s           held at most 3.1s
  replay 6   after 0s to 2s             held at most 5.1s
  replay 7   after 0s to 2s             held at most 7.1s
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn explains_an_answer_that_is_relayed() {
        let explanation = explained(sample("exceeded_quota_403")).unwrap();
        assert_eq!((explanation.answer.class, explanation.verdict), (Class::ExceededQuota, Verdict::Relay));
        assert!(explanation.to_string().ends_with("safety    safe\nverdict   relay\n"));
        let text = explained("HTTP/1.1 502 Bad Gateway\r\n\r\n<html>").unwrap().to_string();
        assert!(text.contains("not a metav1.Status") && text.contains("unrecognized"), "{text}");
    }

    #[test]
    fn a_message_cannot_steer_the_terminal() {
        let hostile = Status::new(409, "Conflict", "a \u{1b}[2J \"b\"\nclass     success").encode(Encoding::Json);
        let text = explained(&hostile).unwrap().to_string();
        assert!(text.contains("message   a \\u{1b}[2J \"b\"\\nclass     success\n"), "{text}");
    }

    #[test]
    fn plans_within_the_hold_and_above_what_the_server_asks() {
        let plan = |raw: &str| explained(raw).unwrap().plan;
        let asked = plan("HTTP/1.1 429 x\nRetry-After: 3\n\nToo many requests, please try again later.\n");
        let seconds = Duration::from_secs;
        assert_eq!(asked.len(), 2);
        assert_eq!(
            asked[0],
            Pause { replay: 1, from: seconds(3), to: Duration::from_millis(3_100), held_at_most: Duration::from_millis(3_100) }
        );
        assert_eq!(asked[1].held_at_most, Duration::from_millis(6_300));
        let never = "HTTP/1.1 429 x\nRetry-After: 9\n\nToo many requests, please try again later.\n";
        assert!(explained(never).unwrap().to_string().contains("no room for a replay"));
        let body = Status::new(503, "ServiceUnavailable", "apiserver is shutting down").encode(Encoding::Json);
        assert!(explained(&body).unwrap().to_string().contains("replay, on another connection"));
    }

    #[test]
    fn reads_captures_of_every_kind() {
        let crlf = sample("quota_conflict_409");
        let text = String::from_utf8(crlf.clone()).unwrap();
        let body = text.split("\r\n\r\n").nth(1).unwrap();
        let captures = [
            text.replace("\r\n", "\n"),
            text.replace("HTTP/1.1 409 Conflict", "HTTP/2 409 "),
            text.replace("HTTP/1.1 409 Conflict", "HTTP/2 409"),
            format!("HTTP/1.1 100 Continue\r\n\r\n{text}"),
            format!("HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n{text}"),
            format!("HTTP/1.1 409\n\n{body}"),
            body.to_string(),
            format!("\n{body}"),
        ];
        for capture in captures {
            assert_eq!(explained(&capture).unwrap().answer.class, Class::QuotaConflict, "{capture}");
        }
        let bare = explained(body).unwrap();
        assert!(bare.code_from_body && bare.to_string().starts_with("code      409 Conflict (from the body"));
        let yaml = sample("quota_conflict_409_yaml");
        let head = yaml.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        assert_eq!(explained(&yaml[head + 4..]).unwrap().answer.class, Class::QuotaConflict);
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let table = [
            ("", "the capture is empty"),
            (" \r\n", "the capture is empty"),
            ("HTTP/1.1 abc\n\n", "line 1: \"HTTP/1.1 abc\" is no status line"),
            ("HTTP/1.1", "line 1: \"HTTP/1.1\" is no status line"),
            ("HTTP/2 4090\n\n", "line 1: \"HTTP/2 4090\" is no status line"),
            ("HTTP/2 409\nA: b\noops\n\n", "line 3: \"oops\" is no header"),
            ("HTTP/2 409\na b: c\n\n", "line 2: \"a b: c\" is no header"),
            ("HTTP/1.1 100 Continue\n\n", "interim answer (100)"),
            ("{\"kind\":\"Pod\"}", "neither a status line nor a Status"),
            ("{\"kind\":\"Status\",\"apiVersion\":\"v1\"}", "neither a status line nor a Status"),
        ];
        for (raw, expected) in table {
            let error = explained(raw).unwrap_err().to_string();
            assert!(error.contains(expected), "{raw:?}: {error}");
        }
        let long = explained(format!("HTTP/1.1 {}", "é".repeat(500))).unwrap_err().to_string();
        assert!(long.len() < 300 && long.contains('…'), "{long}");
    }

    proptest! {
        #[test]
        fn never_panics(tail: Vec<u8>, head in "(HTTP/[12.]{1,3} [0-9]{0,4}[ a-z]{0,5}(\r)?\n)?([A-Za-z-]{0,5}:? ?[0-9]{0,3}\r?\n){0,4}") {
            if let Ok(explanation) = explained([head.as_bytes(), &tail].concat()) {
                let _ = explanation.to_string();
            }
        }
    }
}
