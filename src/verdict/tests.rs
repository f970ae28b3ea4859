use super::*;
use crate::status::{Cause, Encoding, Status};
use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;

mod answers;
mod words;

const EVERYTHING: Policy = Policy {
    exceeded_quota: true,
    quota_status_unknown: true,
    quota_evaluation_timeout: true,
    webhook_unreachable: true,
    resolve: true,
};

fn class_of(code: u16, body: impl AsRef<[u8]>) -> Class {
    classify(
        StatusCode::from_u16(code).unwrap(),
        &HeaderMap::new(),
        body.as_ref(),
    )
    .class
}

fn is_replayed(class: Class, policy: &Policy) -> bool {
    matches!(verdict(&class.into(), policy), Verdict::Replay { .. })
}

fn status(code: u16, reason: &str, resource: &str, name: &str, message: &str) -> Status {
    let mut status = Status::new(code, reason, message);
    let (kind, group) = resource.split_once('.').unwrap_or((resource, ""));
    status.details.kind = kind.into();
    status.details.group = group.into();
    status.details.name = name.into();
    status
}

#[test]
fn replays_by_default_only_what_the_table_says() {
    let replayed: Vec<_> = Class::ALL
        .iter()
        .copied()
        .filter(|class| is_replayed(*class, &Policy::default()))
        .collect();
    use Class::*;
    let expected = [
        QuotaConflict,
        QuotaConflictUid,
        ClusterQuotaConflict,
        Throttled,
        ShuttingDown,
        StartingUp,
        EtcdOverload,
        ConnectFailed,
        Refused,
    ];
    assert_eq!(replayed, expected);
}

#[test]
fn each_opt_in_adds_exactly_its_class() {
    let table = [
        (
            Class::ExceededQuota,
            Policy {
                exceeded_quota: true,
                ..Policy::default()
            },
        ),
        (
            Class::QuotaStatusUnknown,
            Policy {
                quota_status_unknown: true,
                ..Policy::default()
            },
        ),
        (
            Class::QuotaEvaluationTimeout,
            Policy {
                quota_evaluation_timeout: true,
                ..Policy::default()
            },
        ),
        (
            Class::WebhookUnreachable,
            Policy {
                webhook_unreachable: true,
                ..Policy::default()
            },
        ),
    ];
    for (class, policy) in table {
        let added: Vec<_> = Class::ALL
            .iter()
            .copied()
            .filter(|c| is_replayed(*c, &policy) && !is_replayed(*c, &Policy::default()))
            .collect();
        assert_eq!(added, [class]);
    }
}

#[test]
fn nothing_unsafe_is_ever_replayed() {
    for &class in Class::ALL {
        assert!(
            class.safety() == Safety::Safe || !is_replayed(class, &EVERYTHING),
            "{class:?}"
        );
    }
    for class in [
        Class::Unauthorized,
        Class::EvictionRefused,
        Class::AlreadyExists,
        Class::HandlerTimeout,
        Class::Lost,
    ] {
        assert!(!is_replayed(class, &EVERYTHING), "{class:?}");
    }
}

#[test]
fn waits_as_long_as_asked_and_leaves_a_server_that_is_stopping() {
    let answer = |class, seconds| ClassifiedAnswer {
        class,
        retry_after: Some(Duration::from_secs(seconds)),
        of_gateway: false,
    };
    let replay = |millis, on_another_server| Verdict::Replay {
        wait_at_least: Duration::from_millis(millis),
        on_another_server,
    };
    let off = Policy::default();
    assert_eq!(
        verdict(&Class::QuotaConflict.into(), &off),
        replay(0, false)
    );
    assert_eq!(
        verdict(&answer(Class::Throttled, 3), &off),
        replay(3_000, false)
    );
    assert_eq!(
        verdict(&answer(Class::ShuttingDown, 5), &off),
        replay(5_000, true)
    );
    assert_eq!(
        verdict(&Class::EtcdOverload.into(), &off),
        replay(1_000, false)
    );
    assert_eq!(verdict(&Class::Refused.into(), &off), replay(0, true));
    assert_eq!(
        verdict(&answer(Class::StorageTimeout, 2), &off),
        Verdict::Relay
    );
}

#[test]
fn an_ambiguous_answer_is_resolved_only_if_the_operator_wants_it() {
    let resolve = Policy {
        resolve: true,
        ..Policy::default()
    };
    let ends = |if_absent| Some(Verdict::Resolve { if_absent });
    let rows = [
        (Class::Lost, ends(IfAbsent::SendAgain)),
        (Class::HandlerTimeout, ends(IfAbsent::SendAgain)),
        (Class::StorageTimeout, ends(IfAbsent::SendAgain)),
        (Class::ServerError, ends(IfAbsent::Relay)),
        (Class::EtcdLost, ends(IfAbsent::Relay)),
        (Class::Unrecognized, ends(IfAbsent::Relay)),
    ];
    for &class in Class::ALL {
        let of_row = rows.iter().find(|(each, _)| *each == class);
        let expected = of_row.and_then(|(_, expected)| *expected);
        assert_eq!(class.is_ambiguous(), expected.is_some(), "{class:?}");
        let (off, on) = (
            verdict(&class.into(), &Policy::default()),
            verdict(&class.into(), &resolve),
        );
        assert_eq!(on, expected.unwrap_or(off), "{class:?}");
        assert!(!matches!(off, Verdict::Resolve { .. }), "{class:?}");
    }
    let gateway = classify(StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"<html>");
    assert_eq!(Some(verdict(&gateway, &resolve)), ends(IfAbsent::SendAgain));
}

#[test]
fn no_refusal_after_an_ambiguous_answer_is_believed() {
    let resolve = Policy {
        resolve: true,
        ..Policy::default()
    };
    for &class in Class::ALL {
        let alone = verdict(&class.into(), &resolve);
        let after = verdict_after_ambiguous(&class.into(), &resolve);
        let expected = match (alone, class) {
            (Verdict::Relay, Class::Success) => Verdict::Relay,
            (Verdict::Relay, Class::AlreadyExists) => Verdict::Resolve {
                if_absent: IfAbsent::Ambiguous,
            },
            (Verdict::Relay, _) => Verdict::Resolve {
                if_absent: IfAbsent::Relay,
            },
            (other, _) => other,
        };
        assert_eq!(after, expected, "{class:?}");
    }
}

#[test]
fn names_are_distinct_snake_case_and_reasons_are_sentences() {
    let mut names: Vec<_> = Class::ALL.iter().map(|class| class.as_str()).collect();
    for &class in Class::ALL {
        assert!(
            class
                .as_str()
                .bytes()
                .all(|b| b == b'_' || b.is_ascii_lowercase()),
            "{class:?}"
        );
        assert!(
            class.why().ends_with('.') && class.why().starts_with(|c: char| c.is_alphabetic()),
            "{class:?}"
        );
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Class::ALL.len());
}

proptest! {
    #[test]
    fn classify_never_panics(code in 100u16..1000, body: Vec<u8>) {
        let class = class_of(code, &body);
        prop_assert!(class.safety() == Safety::Safe || !is_replayed(class, &EVERYTHING));
    }

    #[test]
    fn arbitrary_statuses_are_relayed_unless_they_are_safe(
        code in prop::sample::select(vec![400u16, 401, 403, 409, 429, 500, 503, 504]),
        reason in prop::sample::select(vec!["", "Conflict", "AlreadyExists", "Forbidden", "TooManyRequests", "InternalError", "ServiceUnavailable"]),
        kind in prop::sample::select(vec!["", "pods", "resourcequotas"]),
        message in "(pods \"a\" is forbidden: |exceeded quota: q|apiserver is shutting down|etcdserver: too many requests|x| ){0,4}",
        policy in (any::<bool>(), any::<bool>()),
    ) {
        let status = status(code, reason, kind, "a", &message);
        let class = class_of(code, status.encode(Encoding::Protobuf));
        let policy = Policy { exceeded_quota: policy.0, webhook_unreachable: policy.1, ..Policy::default() };
        prop_assert!(!is_replayed(class, &policy) || class.safety() == Safety::Safe);
        prop_assert!(!is_replayed(class, &policy) || class != Class::ExceededQuota || policy.exceeded_quota);
        prop_assert_eq!(class, class_of(code, status.encode(Encoding::Json)));
    }
}
