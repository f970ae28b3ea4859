use super::*;
use crate::rows::every;
use crate::verdict::Class;
use proptest::prelude::*;

mod folded;
mod pasted;
mod request;
mod wire;

fn explained(raw: impl AsRef<[u8]>) -> Result<Explanation, ExplainError> {
    explain(raw.as_ref(), &Config::default())
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!(
        "{}/tests/samples/{name}.http",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap()
}

#[test]
fn explains_a_quota_conflict() {
    let text = explained(sample("quota_conflict_409_protobuf"))
        .unwrap()
        .to_string();
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
    assert_eq!(
        (explanation.answer.class, explanation.verdict),
        (Class::ExceededQuota, Verdict::Relay)
    );
    assert!(explanation.to_string().ends_with(
        "verdict   relay\nnote      replayed if replay.exceededQuota.enabled is true\n"
    ));
    let text = explained("HTTP/1.1 502 Bad Gateway\r\n\r\n<html>")
        .unwrap()
        .to_string();
    assert!(
        text.contains("not a metav1.Status") && text.contains("unrecognized"),
        "{text}"
    );
}

#[test]
fn control_characters_of_a_message_are_escaped() {
    let hostile =
        Status::new(409, "Conflict", "a \u{1b}[2J \"b\"\nclass     success").encode(Encoding::Json);
    let text = explained(&hostile).unwrap().to_string();
    assert!(
        text.contains("message   a \\u{1b}[2J \"b\"\\nclass     success\n"),
        "{text}"
    );
}

#[test]
fn plans_within_the_hold_and_above_what_the_server_asks() {
    let plan = |raw: &str| explained(raw).unwrap().plan;
    let asked =
        plan("HTTP/1.1 429 x\nRetry-After: 3\n\nToo many requests, please try again later.\n");
    let seconds = Duration::from_secs;
    assert_eq!(asked.len(), 2);
    assert_eq!(
        asked[0],
        Pause {
            replay: 1,
            from: seconds(3),
            to: Duration::from_millis(3_100),
            held_at_most: Duration::from_millis(3_100)
        }
    );
    assert_eq!(asked[1].held_at_most, Duration::from_millis(6_300));
    let never = "HTTP/1.1 429 x\nRetry-After: 9\n\nToo many requests, please try again later.\n";
    assert!(
        explained(never)
            .unwrap()
            .to_string()
            .contains("no room for a replay")
    );
    let body =
        Status::new(503, "ServiceUnavailable", "apiserver is shutting down").encode(Encoding::Json);
    assert!(
        explained(&body)
            .unwrap()
            .to_string()
            .contains("replay, on another connection")
    );
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
    every(captures, |capture| {
        assert_eq!(
            explained(&capture).unwrap().answer.class,
            Class::QuotaConflict,
            "{capture}"
        );
    });
    let bare = explained(body).unwrap();
    assert!(
        bare.source == Source::Body
            && bare
                .to_string()
                .starts_with("code      409 Conflict (from the body")
    );
    let yaml = sample("quota_conflict_409_yaml");
    let head = yaml
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    assert_eq!(
        explained(&yaml[head + 4..]).unwrap().answer.class,
        Class::QuotaConflict
    );
}

#[test]
fn errors_name_the_problem_and_the_line() {
    let table = [
        ("", "the capture is empty"),
        (" \r\n", "the capture is empty"),
        (
            "HTTP/1.1 abc\n\n",
            "line 1: \"HTTP/1.1 abc\" is not a status line",
        ),
        ("HTTP/1.1", "line 1: \"HTTP/1.1\" is not a status line"),
        (
            "HTTP/2 4090\n\n",
            "line 1: \"HTTP/2 4090\" is not a status line",
        ),
        (
            "HTTP/2 409\nA: b\noops\n\n",
            "line 3: \"oops\" is not a header",
        ),
        (
            "HTTP/2 409\na b: c\n\n",
            "line 2: \"a b: c\" is not a header",
        ),
        ("HTTP/1.1 100 Continue\n\n", "interim answer (100)"),
        ("{\"kind\":\"Pod\"}", "neither a status line nor a Status"),
        (
            "{\"kind\":\"Status\",\"apiVersion\":\"v1\"}",
            "neither a status line nor a Status",
        ),
    ];
    every(table, |(raw, expected)| {
        let error = explained(raw).unwrap_err().to_string();
        assert!(error.contains(expected), "{raw:?}: {error}");
    });
    let long = explained(format!("HTTP/1.1 {}", "é".repeat(500)))
        .unwrap_err()
        .to_string();
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

#[test]
fn says_what_is_done_about_an_ambiguous_answer() {
    let timeout = sample("etcd_stalled_timeout2s_504");
    let text = explained(&timeout).unwrap().to_string();
    let off = "verdict   relay\nnote      looked up, and sent again only if no object was stored, if \
               replay.ambiguous is Resolve and the object has a name\n";
    assert!(text.contains(off), "{text}");
    let mut config = Config::default();
    config.replay.ambiguous = crate::config::Ambiguous::Resolve;
    let text = explain(&timeout, &config).unwrap().to_string();
    let on = "verdict   resolve: an object with a name is looked up as the caller\n\
              plan      if it is provably of this create, the client gets 201; if it is absent, \
              the create is sent again\n";
    assert!(text.contains(on), "{text}");
}
