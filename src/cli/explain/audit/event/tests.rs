//! The samples are lines that kube-apiserver 1.37 wrote.

use proptest::prelude::*;

use super::*;
use crate::rows::every;

fn sample(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/samples/audit/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

/// The events of all lines.
fn events(text: &[u8]) -> Vec<Event<'_>> {
    let mut events = Vec::new();
    for line in text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        read_line(line, |event| events.push(event)).unwrap();
    }
    events
}

/// The line of the sample `metadata.jsonl` with this text.
fn line(text: &str) -> String {
    let sample = String::from_utf8(sample("metadata.jsonl")).unwrap();
    let found = sample.lines().find(|line| line.contains(text));
    found.unwrap_or_else(|| panic!("no {text}")).to_owned()
}

fn of(line: &str) -> Option<Event<'_>> {
    let mut event = None;
    read_line(line.as_bytes(), |found| event = Some(found)).unwrap();
    event
}

#[test]
fn real_events_tell_what_happened() {
    let sample = sample("metadata.jsonl");
    let found: Vec<_> = events(&sample)
        .into_iter()
        .map(|event| {
            let Answer::Is { class, created } = event.answer else {
                panic!("{event:?}");
            };
            let name = format!("{} {}", event.verb.as_str(), event.resource);
            (name, event.namespace.into_owned(), class, created)
        })
        .collect();
    let expected = [
        ("create leases", "kube-system", Class::Success, true),
        ("create pods", "team-a", Class::QuotaConflict, false),
        ("create pods", "team-b", Class::QuotaConflict, false),
        (
            "create pods",
            "team-b",
            Class::QuotaEvaluationTimeout,
            false,
        ),
        ("create pods", "team-a", Class::Success, true),
        ("create pods", "team-a", Class::Throttled, false),
        ("patch configmaps", "team-a", Class::Success, true),
        ("patch configmaps", "team-a", Class::Success, false),
        // A dry run is left out.
        ("create configmaps", "team-a", Class::AlreadyExists, false),
        ("patch configmaps", "team-a", Class::Success, false),
        ("create configmaps", "team-a", Class::Rejected, false),
        ("create configmaps", "nowhere", Class::Rejected, false),
        ("create services", "team-a", Class::ExceededQuota, false),
    ];
    let expected = expected.map(|(name, namespace, class, created)| {
        (name.to_owned(), namespace.to_owned(), class, created)
    });
    assert_eq!(found, expected);
}

#[test]
fn a_real_event_is_read_in_full() {
    let line = line("\"code\":429");
    let event = of(&line).unwrap();
    assert_eq!(
        event,
        Event {
            verb: Verb::Create,
            namespace: "team-a".into(),
            group: "".into(),
            resource: "pods".into(),
            user_agent: "driver".into(),
            uri: "/api/v1/namespaces/team-a/pods".into(),
            time: Some(1_795_749_722),
            answer: Answer::Is {
                class: Class::Throttled,
                created: false,
            },
        }
    );
    assert!(matches!(event.namespace, Cow::Borrowed(_)));
}

#[test]
fn stages_before_the_answer_are_pending_at_every_level_and_in_lists() {
    for name in ["request_response.jsonl", "event_list.jsonl"] {
        let sample = sample(name);
        let answers: Vec<_> = events(&sample).iter().map(|event| event.answer).collect();
        let is = |class, created| Answer::Is { class, created };
        let expected = [
            Answer::Pending,
            is(Class::Success, true),
            Answer::Pending,
            is(Class::AlreadyExists, false),
        ];
        assert_eq!(answers, expected, "{name}");
    }
}

/// A list of small items takes far more memory than its line, if they are collected.
#[test]
fn lists_are_read_item_by_item_wherever_the_version_is() {
    let item = line("\"code\":429");
    let head = "\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\"";
    every(
        [
            (format!("{{{head},\"items\":[{item},{{}},{item}]}}"), Ok(2)),
            (
                format!("{{\"items\":[{item}],\"metadata\":{{\"a\":[1]}},{head}}}"),
                Ok(1),
            ),
            (format!("{{{head},\"items\":null,\"x\":\"create\"}}"), Ok(0)),
            (
                format!("{{{head},\"items\":[{{}},7],\"x\":\"create\"}}"),
                Err(LineError::CutOff),
            ),
            (
                format!("{{{head},\"items\":[{}{item}]}}", "{},".repeat(100_000)),
                Ok(1),
            ),
        ],
        |(line, expected)| {
            let mut count = 0;
            let read = read_line(line.as_bytes(), |_| count += 1);
            assert_eq!(read.map(|()| count), expected);
        },
    );
}

#[test]
fn what_no_quota_counts_is_left_out() {
    let created = line("\"code\":429");
    assert!(of(&created).is_some());
    every(
        [
            ("\"create\"", "\"update\""),
            ("\"namespace\":\"team-a\",", ""),
            (
                "\"apiVersion\":\"v1\"}",
                "\"apiVersion\":\"v1\",\"subresource\":\"binding\"}",
            ),
            ("team-a/pods\"", "team-a/pods?a=b&dryRun=All\""),
        ],
        |(from, to)| {
            let other = created.replace(from, to);
            assert_ne!(other, created);
            assert_eq!(of(&other), None);
        },
    );
}

#[test]
fn answers_have_the_class_that_the_proxy_would_find() {
    let throttled = line("\"code\":429");
    let is = |class| Answer::Is {
        class,
        created: false,
    };
    let starting = r#""status":"Failure","reason":"ServiceUnavailable","message":"the request has been made before all known HTTP paths have been installed, please try again","code":503"#;
    let stopping = r#""status":"Failure","reason":"ServiceUnavailable","message":"apiserver is shutting down","code":503"#;
    let webhook = r#""status":"Failure","reason":"Conflict","message":"admission webhook \"a\" denied the request: no","details":{"kind":"resourcequotas"},"code":409"#;
    let panic = r#""status":"Failure","reason":"InternalError","message":"APIServer panic'd: oh","code":500"#;
    let early = r#""status":"Success","message":"Connection closed early","code":200"#;
    let contradiction = r#""status":"Failure","reason":"InternalError","code":201"#;
    every(
        [
            (contradiction, is(Class::Unrecognized)),
            (starting, is(Class::StartingUp)),
            (stopping, is(Class::ShuttingDown)),
            (webhook, is(Class::OtherConflict)),
            (panic, is(Class::ServerError)),
            (early, is(Class::Lost)),
            ("\"code\":409", is(Class::Unrecognized)),
            ("\"code\":504", is(Class::HandlerTimeout)),
            ("\"code\":0", is(Class::Unrecognized)),
            ("\"code\":-1", is(Class::Unrecognized)),
        ],
        |(answer, expected)| {
            let line = throttled.replace("\"code\":429", answer);
            assert_eq!(of(&line).unwrap().answer, expected);
            let panicked = line.replace("ResponseComplete", "Panic");
            assert_eq!(of(&panicked).unwrap().answer, expected);
        },
    );
    let without = throttled.replace("responseStatus", "other");
    assert_eq!(of(&without).unwrap().answer, Answer::Missing);
}

#[test]
fn a_line_may_have_a_prefix_and_spaces() {
    let plain = line("\"code\":429");
    let spaced = plain.replace("\":", "\": ");
    let beta = plain.replace("k8s.io/v1\"", "k8s.io/v1beta1\"");
    let escaped = plain.replace("pods\",\"verb\"", "p\\u006fds\",\"verb\"");
    every(
        [
            spaced,
            beta,
            escaped,
            format!("2026-11-27T03:22:02.7Z stdout F {plain}"),
            format!("\u{feff}{plain}\r"),
        ],
        |line| assert_eq!(of(&line), of(&plain)),
    );
}

#[test]
fn what_is_no_event_is_told_apart() {
    let whole = line("\"code\":429");
    let read = |line: &[u8]| read_line(line, |event| panic!("{event:?}"));
    every(
        [
            (
                "I1127 03:22:02.759859 1 server.go:1] hello",
                LineError::NotAnEvent,
            ),
            (
                "{\"kind\":\"Pod\",\"verb\":\"create\"}",
                LineError::NotAnEvent,
            ),
            (
                "{\"methodName\":\"io.k8s.core.v1.pods.create\"}",
                LineError::NotAnEvent,
            ),
            (
                &whole.replace("\"Event\"", "\"Policy\""),
                LineError::NotAnEvent,
            ),
            (
                &whole.replace("k8s.io/v1\"", "k8s.io/v1alpha1\""),
                LineError::OtherVersion,
            ),
            (&whole.replace("\"code\"", "code"), LineError::CutOff),
        ],
        |(line, expected)| assert_eq!(read(line.as_bytes()), Err(expected)),
    );
    let wrapped = serde_json::json!({"log": format!("{whole}\n"), "stream": "stdout"});
    assert_eq!(
        read(wrapped.to_string().as_bytes()),
        Err(LineError::NotAnEvent)
    );
    let version = whole.find("v1\"").unwrap();
    for end in version..whole.len() - 1 {
        assert_eq!(
            read(&whole.as_bytes()[..end]),
            Err(LineError::CutOff),
            "{end}"
        );
    }
}

#[test]
fn times_are_read_to_the_second() {
    every(
        [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2024-02-29T23:59:59.999999Z", Some(1_709_251_199)),
            ("2024-02-30T00:00:00Z", None),
            ("2024-02-29T24:00:00Z", None),
            ("2024-02-29T00:00:00+01:00", None),
            ("99999999999-01-01T00:00:00Z", None),
            ("", None),
        ],
        |(time, expected)| assert_eq!(seconds(time), expected),
    );
}

proptest! {
    #[test]
    fn reading_never_panics(line: Vec<u8>) {
        let _ = read_line(&line, |_| {});
    }

    #[test]
    fn reading_a_damaged_line_never_panics(at: prop::sample::Index, byte: u8) {
        let mut line = line("\"code\":429").into_bytes();
        let at = at.index(line.len());
        line[at] = byte;
        let _ = read_line(&line, |_| {});
    }
}
