//! Explains decisions from `/debug/decisions` attempt by attempt.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use super::super::admin;
use super::{CliError, printable};
use crate::snapshot::words::{counted, duration};
use crate::snapshot::{AttemptSummary, DecisionSummary};
use crate::verdict::Class;

/// Reads the last creates of a running proxy, newest first.
pub(super) fn fetch(
    address: &str,
    namespace: Option<&str>,
    limit: Option<u32>,
) -> Result<Vec<DecisionSummary>, CliError> {
    let mut path = "/debug/decisions".to_owned();
    if let Some(limit) = limit {
        path += &format!("?limit={limit}");
    }
    if let Some(namespace) = namespace {
        path += &format!(
            "{}namespace={namespace}",
            if limit.is_some() { '&' } else { '?' }
        );
    }
    admin::get(address, &path)
}

/// Parses saved decisions. None: the text is something else.
pub(super) fn parse(raw: &[u8]) -> Option<Vec<DecisionSummary>> {
    raw.trim_ascii_start()
        .starts_with(b"[")
        .then(|| serde_json::from_slice(raw).ok())
        .flatten()
}

pub(super) fn print(
    decisions: &[DecisionSummary],
    out: &mut impl Write,
) -> Result<ExitCode, CliError> {
    let text = if decisions.is_empty() {
        "No creates yet.\n".to_owned()
    } else {
        decisions
            .iter()
            .map(explained)
            .collect::<Vec<_>>()
            .join("\n")
    };
    out.write_all(text.as_bytes()).map_err(CliError::Stdout)?;
    Ok(ExitCode::SUCCESS)
}

fn explained(decision: &DecisionSummary) -> String {
    let DecisionSummary {
        time,
        attempts,
        why,
        held_ms,
        ..
    } = decision;
    let (object, ended) = (
        printable(&decision.object()),
        printable(decision.outcome_in_words()),
    );
    let held = duration(Duration::from_millis(*held_ms));
    let mut text = format!("create    {object} at {}\n", printable(time));
    text += &format!(
        "outcome   {ended} ({}, held {held})\n",
        counted(attempts.len() as u64, "attempt")
    );
    text += &format!("why       {}\n", printable(why));
    for (index, attempt) in attempts.iter().enumerate() {
        text += &attempted(index + 1, attempt);
    }
    text
}

fn attempted(number: usize, attempt: &AttemptSummary) -> String {
    let took = duration(Duration::from_millis(attempt.duration_ms));
    let mut text = format!(
        "  attempt {number:<2} {}, took {took}\n",
        printable(&attempt.answer())
    );
    // A proxy of another version can have classes that this version does not know.
    if let Some(class) = Class::ALL
        .iter()
        .copied()
        .find(|class| class.as_str() == attempt.class && *class != Class::Success)
    {
        text += &format!(
            "             {} ({} to send again)\n",
            class.why(),
            class.safety().as_str()
        );
    }
    for found in &attempt.lookups {
        let meant = match found.as_str() {
            "absent" => "there is no such object",
            "ours" => "the object is of this create",
            "foreign" => "the object is somebody else's",
            "unproven" => "the object may be of this create or not",
            "forbidden" => "the caller may not get the object",
            "failed" => "no answer",
            other => other,
        };
        text += &format!("             looked up: {}\n", printable(meant));
    }
    if let Some(delay) = attempt.delay_ms {
        text += &format!(
            "             sent again after {}\n",
            duration(Duration::from_millis(delay))
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_explained_attempt_by_attempt() {
        let raw = r#"[{"time":"2026-01-02T03:04:05.678Z","namespace":"argo","name":"step-\u001b[2J","resource":"pods","attempts":[
            {"code":409,"class":"quota_conflict","durationMs":3,"delayMs":50},{"error":"lost","class":"of_another_version","durationMs":1},
            {"code":201,"class":"success","durationMs":1200}],"outcome":"created_after_replay","why":"The apiserver stored the object.",
            "heldMs":50}]"#;
        let mut out = Vec::new();
        print(&parse(raw.as_bytes()).unwrap(), &mut out).unwrap();
        let expected = "\
create    pods argo/step-\\u{1b}[2J at 2026-01-02T03:04:05.678Z
outcome   created after a replay (3 attempts, held 50 ms)
why       The apiserver stored the object.
  attempt 1  409 quota conflict, took 3 ms
             Another writer updated the ResourceQuota at the same time; quota is checked before anything is stored, so the object was not. (safe to send again)
             sent again after 50 ms
  attempt 2  of another version, took 1 ms
  attempt 3  201 success, took 1.2 s
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn an_answer_is_not_a_decision() {
        assert_eq!(parse(b"{\"kind\":\"Status\"}"), None);
        assert_eq!(parse(b"HTTP/1.1 409 Conflict\r\n\r\n[]"), None);
        assert_eq!(parse(b"[]\n"), Some(Vec::new()));
    }
}
