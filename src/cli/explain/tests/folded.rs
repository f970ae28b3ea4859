//! Texts with several messages, and messages that were folded.

use super::*;
use crate::rows::every;

const CONFLICT: &str = "Operation cannot be fulfilled on resourcequotas \"compute-quota\": the object has been modified; please apply your changes to the latest version and try again";
const NOISE: &str = "Operation cannot be fulfilled on pods \"x\": the object has been modified; please apply your changes to the latest version and try again";

fn klog(message: &str) -> String {
    format!("E0102 03:04:05.000000       1 controller.go:1] \"Sync failed\" err={message:?}\n")
}

/// `text` in lines of at most `width` characters, between words or anywhere.
fn fold(text: &str, width: usize, between_words: bool, prefix: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(|c: char| !between_words || c == ' ') {
        if lines.last().unwrap().chars().count() + word.trim_end().chars().count() > width {
            lines.push(String::new());
        }
        lines.last_mut().unwrap().push_str(word);
    }
    lines
        .iter()
        .map(|line| format!("{prefix}{line}\n"))
        .collect()
}

#[test]
fn of_several_messages_that_of_a_quota_is_explained() {
    let exceeded = "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5";
    let (exists, busy) = ("pods \"p\" already exists", "etcdserver: too many requests");
    let status = |message: &str, code: u16, reason: &str, kind: &str| {
        let mut status = Status::new(code, reason, message);
        status.details.kind = kind.into();
        status.details.name = "compute-quota".into();
        String::from_utf8(status.encode(Encoding::Json).to_vec()).unwrap()
    };
    every(
        [
            (
                klog(NOISE) + &klog(CONFLICT),
                Class::QuotaConflict,
                "1 of 2 messages; also other_conflict\n",
            ),
            (
                klog(CONFLICT) + &klog(NOISE),
                Class::QuotaConflict,
                "1 of 2 messages; also other_conflict\n",
            ),
            (
                format!("{NOISE}\n{CONFLICT}\n"),
                Class::QuotaConflict,
                "1 of 2 messages",
            ),
            (
                format!("Error: [{NOISE}, {CONFLICT}]"),
                Class::QuotaConflict,
                "1 of 2 messages",
            ),
            (
                klog(exists)
                    + &klog(busy)
                    + &klog(exceeded)
                    + &klog(NOISE)
                    + &klog(&NOISE.replace("\"x\"", "\"y\"")),
                Class::ExceededQuota,
                "1 of 5 messages; also etcd_overload, already_exists, other_conflict (2)\n",
            ),
            (
                klog(NOISE) + &klog(exists) + &klog(busy),
                Class::EtcdOverload,
                "1 of 3 messages",
            ),
            (klog(CONFLICT) + &klog(CONFLICT), Class::QuotaConflict, ""),
            (
                format!(
                    "{}\n{}\n",
                    status("a", 404, "NotFound", "pods"),
                    status(CONFLICT, 409, "Conflict", "resourcequotas")
                ),
                Class::QuotaConflict,
                "1 of 2 messages; also rejected\n",
            ),
            (
                status(CONFLICT, 409, "Conflict", "resourcequotas")
                    .replace("{\"kind\"", " {\"kind\"")
                    + "\nError from server (Conflict): "
                    + CONFLICT,
                Class::QuotaConflict,
                "",
            ),
            (
                format!(
                    "Error from server (Conflict): error when creating \"p.yaml\": {CONFLICT}\nError from server (Invalid): Pod \"p\" is invalid: x\n"
                ),
                Class::QuotaConflict,
                "1 of 2 messages; also rejected\n",
            ),
        ],
        |(text, class, note)| {
            let explanation = explained(&text).unwrap();
            assert_eq!(explanation.answer.class, class, "{explanation}");
            let printed = explanation.to_string();
            assert!(printed.contains(note), "{printed}");
            assert_eq!(printed.contains("messages;"), !note.is_empty(), "{printed}");
        },
    );
}

#[test]
fn folded_messages_are_joined() {
    let kubectl =
        format!("Error from server (Conflict): error when creating \"p.yaml\": {CONFLICT}");
    let quoted = format!("{{\"level\":\"error\",\"error\":{CONFLICT:?}}}");
    let mut texts = Vec::new();
    for text in [CONFLICT, &kubectl, &quoted] {
        for width in [30, 40, 60, 72, 80] {
            texts.push(fold(text, width, true, ""));
            texts.push(fold(text, width, false, ""));
            for prefix in ["│ ", "> ", "    ", "# ", ">> ", "\u{1b}[31m│\u{1b}[0m "] {
                texts.push(fold(text, width, true, prefix));
            }
        }
    }
    texts.push(format!(
        "╷\n{}│ \n│   with kubernetes_pod.a,\n╵\n",
        fold(&format!("Error: {CONFLICT}"), 60, true, "│ ")
    ));
    texts.push(format!(
        "message: >-\n{}phase: Failed\n",
        fold(CONFLICT, 60, true, "  ")
    ));
    texts.push(format!(
        "message: '{}'\n",
        fold(CONFLICT, 60, true, "    ").trim()
    ));
    texts.push(fold(CONFLICT, 60, true, "").replace(" \n", "\r\n"));
    every(texts, |text| {
        let explanation = explained(&text).unwrap();
        assert_eq!(
            explanation.answer.class,
            Class::QuotaConflict,
            "{text}\n{explanation}"
        );
        assert_ne!(explanation.verdict, Verdict::Relay);
        assert!(explanation.others.is_empty(), "{text}\n{explanation}");
        let (status, _) = explanation.status.unwrap();
        assert_eq!(status.details.name, "compute-quota", "{text}");
        assert_eq!(status.message, CONFLICT, "{text}");
    });
    let exceeded = "Error creating: pods \"web-x2x\" is forbidden: exceeded quota: compute-quota, requested: pods=1, used: pods=5, limited: pods=5";
    every([30, 40, 50, 60, 70], |width| {
        for between_words in [true, false] {
            let text = fold(exceeded, width, between_words, "");
            let explanation = explained(&text).unwrap();
            assert_eq!(
                explanation.answer.class,
                Class::ExceededQuota,
                "{text}\n{explanation}"
            );
        }
    });
    let body = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"a b","reason":"Conflict","details":{"name":"q","kind":"resourcequotas"},"code":409}"#;
    let explanation = explained(format!("body:\n{}", fold(body, 60, false, ""))).unwrap();
    assert_eq!(
        (explanation.source, explanation.answer.class),
        (Source::Json, Class::QuotaConflict)
    );
}

/// A denial can quote anything, on any line.
#[test]
fn a_folded_denial_of_a_webhook_is_no_conflict() {
    let denial = format!("admission webhook \"a.example.com\" denied the request: {CONFLICT}");
    every([20, 30, 40, 50, 60, 80, 200], |width| {
        for between_words in [true, false] {
            let text = fold(&denial, width, between_words, "│ ");
            let explanation = explained(&text).unwrap();
            assert_eq!(
                explanation.answer.class,
                Class::Rejected,
                "{text}\n{explanation}"
            );
        }
    });
    let both = explained(klog(&denial) + &klog(CONFLICT)).unwrap();
    assert_eq!(both.answer.class, Class::QuotaConflict, "{both}");
}

#[test]
fn other_quotation_marks_or_none_are_read() {
    every(
        [
            "“compute-quota”",
            "compute-quota",
            "'compute-quota'",
            "‘compute-quota’",
            "`compute-quota`",
            "&quot;compute-quota&quot;",
            "«compute-quota»",
            "\\\"compute-quota\\\"",
        ],
        |name| {
            let text = CONFLICT.replace("\"compute-quota\"", name);
            let explanation = explained(&text).unwrap();
            assert_eq!(
                explanation.answer.class,
                Class::QuotaConflict,
                "{explanation}"
            );
            assert_eq!(explanation.status.unwrap().0.message, CONFLICT);
        },
    );
}
