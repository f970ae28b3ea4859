use super::*;
use crate::status::{Cause, Encoding, Status};
use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;

const EVERYTHING: Policy = Policy {
    exceeded_quota: true,
    quota_status_unknown: true,
    quota_evaluation_timeout: true,
    webhook_unreachable: true,
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
    verdict(&class.into(), policy) != Verdict::Relay
}

fn status(code: u16, reason: &str, resource: &str, name: &str, message: &str) -> Status {
    let mut status = Status::new(code, reason, message);
    let (kind, group) = resource.split_once('.').unwrap_or((resource, ""));
    status.details.kind = kind.into();
    status.details.group = group.into();
    status.details.name = name.into();
    status
}

/// A captured answer: code, headers, body.
fn sample(name: &str) -> (StatusCode, HeaderMap, Vec<u8>) {
    let raw = std::fs::read(format!(
        "{}/tests/samples/{name}",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap();
    let end = raw.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(raw[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let code = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.map(|line| line.split_once(": ").unwrap()) {
        headers.append(
            http::HeaderName::try_from(name).unwrap(),
            HeaderValue::try_from(value).unwrap(),
        );
    }
    (code, headers, raw[end + 4..].to_vec())
}

#[test]
fn every_captured_answer_falls_in_its_class() {
    // The same answers of another Kubernetes, or in protobuf, fall in the same class.
    let plain = |name: &str| {
        name.trim_start_matches("v1_37_")
            .trim_end_matches("_protobuf")
            .to_owned()
    };
    let expected = |name: &str| match plain(name).as_str() {
        name if name.contains("_201") => Class::Success,
        name if name.starts_with("quota_conflict_409") => Class::QuotaConflict,
        name if name.starts_with("already_exists_409") => Class::AlreadyExists,
        "namespace_terminating_ns_create_409" => Class::AlreadyExists,
        "update_conflict_409_pod" => Class::OtherConflict,
        "exceeded_quota_403" => Class::ExceededQuota,
        "failed_quota_must_specify_403" => Class::QuotaSpec,
        "quota_status_unknown_403" => Class::QuotaStatusUnknown,
        "namespace_terminating_403" => Class::NamespaceTerminating,
        "etcd_unavailable_403" => Class::EtcdLost,
        "etcd_stalled_quota_timeout_500" => Class::QuotaEvaluationTimeout,
        "etcd_stalled_timeout2s_504" => Class::HandlerTimeout,
        // A token controller that lags: refused in admission, but nothing in the answer says so.
        "sa_token_missing_500" => Class::ServerError,
        name if name.starts_with("too_many_requests_429") => Class::Throttled,
        "unauthorized_401" => Class::Unauthorized,
        "anonymous_403"
        | "bad_json_400"
        | "default_sa_missing_403"
        | "invalid_422"
        | "invalid_422_two_causes"
        | "method_not_allowed_405"
        | "namespace_mismatch_400"
        | "namespace_not_found_404"
        | "not_acceptable_406"
        | "priorityclass_403"
        | "rbac_forbidden_403"
        | "serviceaccount_missing_403"
        | "unsupported_media_415" => Class::Rejected,
        name => panic!("a sample without an expectation: {name}"),
    };
    let mut seen = 0;
    for entry in std::fs::read_dir(format!("{}/tests/samples", env!("CARGO_MANIFEST_DIR"))).unwrap()
    {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = file.strip_suffix(".http") else {
            continue;
        };
        let (code, headers, body) = sample(&file);
        assert_eq!(
            classify(code, &headers, &body).class,
            expected(name),
            "{name}"
        );
        seen += 1;
    }
    assert_eq!(seen, 56);
}

/// Every class that has a Status, as the apiserver would write it.
fn statuses() -> Vec<(Class, Status)> {
    let quota = "Operation cannot be fulfilled on resourcequotas \"q\": ";
    let modified = "the object has been modified; please apply your changes to the latest version and try again";
    let uid = "StorageError: invalid object, Code: 4, Key: /registry/resourcequotas/n/q, ResourceVersion: 0, AdditionalErrorMsg: \
               Precondition failed: UID in precondition: a, UID in object meta: b";
    let cluster =
        "Operation cannot be fulfilled on clusterresourcequotas.quota.openshift.io \"q\": ";
    let exhausted = "pods \"g-x\" already exists, the server was not able to generate a unique name for the object";
    let forbidden = |cause: &str| {
        status(
            403,
            "Forbidden",
            "pods",
            "a",
            &format!("pods \"a\" is forbidden: {cause}"),
        )
    };
    let internal = |cause: &str| {
        let mut status = Status::new(
            500,
            "InternalError",
            format!("Internal error occurred: {cause}"),
        );
        status.details.causes = vec![Cause {
            reason: String::new(),
            message: cause.into(),
        }];
        status
    };
    let terminating = "unable to create new content in namespace n because it is being terminated";
    let mut terminating_with_cause = forbidden("wording of a later release");
    terminating_with_cause.details.causes = vec![Cause {
        reason: "NamespaceTerminating".into(),
        message: String::new(),
    }];
    let mut eviction = Status::new(
        429,
        "TooManyRequests",
        "Cannot evict pod as it would violate the pod's disruption budget.",
    );
    eviction.details.causes = vec![Cause {
        reason: "DisruptionBudget".into(),
        message: "needs 2".into(),
    }];
    let installed = "the request has been made before all known HTTP paths have been installed, please try again";
    vec![
        (Class::QuotaConflict, status(409, "Conflict", "resourcequotas", "q", &format!("{quota}{modified}"))),
        (Class::QuotaConflictUid, status(409, "Conflict", "resourcequotas", "q", &format!("{quota}{uid}"))),
        (
            Class::ClusterQuotaConflict,
            status(409, "Conflict", "clusterresourcequotas.quota.openshift.io", "q", &format!("{cluster}{modified}")),
        ),
        (Class::AlreadyExists, status(409, "AlreadyExists", "pods", "a", "pods \"a\" already exists")),
        (Class::GenerateNameExhausted, status(409, "AlreadyExists", "pods", "g-x", exhausted).with_retry_after(1)),
        (Class::OtherConflict, status(409, "Conflict", "pods", "a", &format!("Operation cannot be fulfilled on pods \"a\": {modified}"))),
        (Class::OtherConflict, Status::new(409, "Conflict", "Apply failed with 1 conflict: conflict with \"kubectl\": .spec.x")),
        (Class::ExceededQuota, forbidden("exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5")),
        (Class::QuotaStatusUnknown, forbidden("status unknown for quota: q, resources: pods")),
        (Class::QuotaSpec, forbidden("failed quota: q: must specify limits.cpu")),
        (Class::NamespaceTerminating, forbidden(terminating)),
        (Class::NamespaceTerminating, terminating_with_cause),
        (Class::EtcdLost, forbidden("rpc error: code = Unavailable desc = transport is closing")),
        (Class::QuotaEvaluationTimeout, internal("resource quota evaluation timed out")),
        (Class::WebhookUnreachable, internal("failed calling webhook \"w.example.com\": failed to call webhook: Post \"https://w\": EOF")),
        (Class::WebhookUnreachable, internal("failed calling webhook \"w.example.com\": context deadline exceeded")),
        (Class::Throttled, Status::new(429, "TooManyRequests", "Too many requests: slow down").with_retry_after(1)),
        (Class::EvictionRefused, eviction),
        (Class::EvictionRefused, Status::new(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.")),
        (Class::ShuttingDown, Status::new(503, "ServiceUnavailable", "apiserver is shutting down")),
        (Class::StartingUp, Status::new(503, "ServiceUnavailable", installed).with_retry_after(5)),
        (Class::HandlerTimeout, Status::new(504, "Timeout", "Timeout: request did not complete within requested timeout 34s")),
        (Class::HandlerTimeout, Status::new(504, "Timeout", "Timeout: request did not complete within the allotted timeout")),
        (
            Class::StorageTimeout,
            status(
                500,
                "ServerTimeout",
                "pods",
                "create",
                "The create operation against pods could not be completed at this time, please try again.",
            )
            .with_retry_after(2),
        ),
        (Class::StorageTimeout, Status::new(500, "", "etcdserver: request timed out, possibly due to previous leader failure")),
        (Class::StorageTimeout, Status::new(500, "", "etcdserver: leader changed")),
        (Class::StorageTimeout, Status::new(500, "", "context deadline exceeded")),
        (Class::EtcdOverload, Status::new(500, "", "etcdserver: too many requests")),
        (Class::Unauthorized, Status::new(401, "Unauthorized", "Unauthorized")),
        (Class::Rejected, status(422, "Invalid", "Pod", "a", "Pod \"a\" is invalid: spec: Required value")),
        (Class::Rejected, Status::new(413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")),
        (Class::Rejected, forbidden("violates PodSecurity \"restricted:latest\"")),
        (Class::ServerError, internal("unexpected")),
        (Class::ServerError, Status::new(503, "ServiceUnavailable", "the server is currently unable to handle the request")),
        (Class::ServerError, Status::new(507, "", "")),
    ]
}

#[test]
fn every_status_falls_in_its_class_in_every_encoding() {
    for (class, status) in statuses() {
        for encoding in [Encoding::Json, Encoding::Protobuf, Encoding::Yaml] {
            assert_eq!(
                class_of(status.code, status.encode(encoding)),
                class,
                "{encoding:?} {status:?}"
            );
        }
        assert_eq!(
            class_of(
                status.code,
                [b"\n  ", &status.encode(Encoding::Json)[..]].concat()
            ),
            class,
            "{status:?}"
        );
    }
}

#[test]
fn knows_the_answers_that_are_plain_text() {
    let table = [
        (
            Class::Throttled,
            429,
            "Too many requests, please try again later.\n",
        ),
        (
            Class::ShuttingDown,
            429,
            "The apiserver is shutting down, please try again later.\n",
        ),
        (
            Class::StartingUp,
            429,
            "The apiserver hasn't been fully initialized yet, please try again later.\n",
        ),
        (
            Class::StartingUp,
            503,
            "The apiserver hasn't been fully initialized yet, please try again later.\n",
        ),
        (Class::HandlerTimeout, 504, ""),
        (
            Class::HandlerTimeout,
            504,
            "<html><h1>504 Gateway Time-out</h1></html>",
        ),
        (Class::Unauthorized, 401, "Unauthorized"),
        (
            Class::Unrecognized,
            502,
            "<html><h1>502 Bad Gateway</h1></html>",
        ),
        (Class::Unrecognized, 503, "no healthy upstream"),
        (
            Class::Unrecognized,
            500,
            "This request caused apiserver to panic. Look in the logs for details.\n",
        ),
        (
            Class::Unrecognized,
            429,
            "<html>rate limited: Too many requests, please try again later.</html>",
        ),
        (Class::Unrecognized, 429, ""),
        (Class::Unrecognized, 409, ""),
        (
            Class::Unrecognized,
            409,
            "Operation cannot be fulfilled on resourcequotas \"q\": the object has been modified",
        ),
        (Class::Unrecognized, 302, ""),
        (Class::Unrecognized, 404, "404 page not found\n"),
    ];
    for (class, code, body) in table {
        assert_eq!(class_of(code, body), class, "{code} {body:?}");
    }
}

#[test]
fn the_words_of_a_conflict_prove_nothing_in_another_structure() {
    let words = "Operation cannot be fulfilled on resourcequotas \"q\": the object has been modified; please apply your changes";
    let table = [
        (
            Class::AlreadyExists,
            status(
                409,
                "AlreadyExists",
                "pods",
                words,
                &format!("pods {words:?} already exists"),
            ),
        ),
        (Class::OtherConflict, Status::new(409, "Conflict", words)),
        (
            Class::OtherConflict,
            status(409, "Conflict", "pods", "q", words),
        ),
        (
            Class::OtherConflict,
            status(409, "Conflict", "resourcequotas.example.com", "q", words),
        ),
        (
            Class::OtherConflict,
            status(409, "Conflict", "clusterresourcequotas", "q", words),
        ),
        (
            Class::OtherConflict,
            status(409, "Conflict", "ResourceQuotas", "q", words),
        ),
        (
            Class::OtherConflict,
            status(409, "conflict", "resourcequotas", "q", words),
        ),
        (
            Class::Rejected,
            status(403, "Forbidden", "resourcequotas", "q", words),
        ),
        (
            Class::ServerError,
            status(500, "Conflict", "resourcequotas", "q", words),
        ),
        // A webhook may put anything into its denial but the beginning of the message.
        (
            Class::OtherConflict,
            status(
                409,
                "Conflict",
                "resourcequotas",
                "q",
                &format!("admission webhook \"w\" denied the request: {words}"),
            ),
        ),
        (
            Class::Rejected,
            Status::new(
                403,
                "Forbidden",
                format!("admission webhook \"w\" denied the request: {words}"),
            ),
        ),
        (
            Class::Rejected,
            Status::new(
                429,
                "TooManyRequests",
                "admission webhook \"w\" denied the request: slow down",
            ),
        ),
        (
            Class::ServerError,
            Status::new(
                503,
                "ServiceUnavailable",
                "admission webhook \"w\" denied the request: apiserver is shutting down",
            ),
        ),
        (
            Class::ServerError,
            Status::new(
                500,
                "InternalError",
                "admission webhook \"w\" denied the request: resource quota evaluation timed out",
            ),
        ),
    ];
    for (class, status) in table {
        for encoding in [Encoding::Json, Encoding::Protobuf, Encoding::Yaml] {
            let body = status.encode(encoding);
            assert_eq!(class_of(status.code, &body), class, "{status:?}");
            assert!(
                !is_replayed(class_of(status.code, &body), &EVERYTHING),
                "{status:?}"
            );
        }
    }
    let pod = format!(
        r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":{words:?}}},"reason":"Conflict","code":409}}"#
    );
    assert_eq!(class_of(409, pod), Class::Unrecognized);
}

#[test]
fn a_conflict_on_a_quota_counts_whatever_its_words() {
    // By structure: a create updates no other quota than in admission.
    assert_eq!(
        class_of(
            409,
            status(409, "Conflict", "resourcequotas", "q", "").encode(Encoding::Json)
        ),
        Class::QuotaConflict
    );
}

#[test]
fn the_words_of_a_quota_refusal_count_only_as_its_cause() {
    let hidden = "a\" is forbidden: exceeded quota: q";
    let table = [
        status(
            403,
            "Forbidden",
            "pods",
            hidden,
            &format!("pods {hidden:?} is forbidden: no"),
        ),
        status(
            403,
            "Forbidden",
            "pods",
            "",
            "pods is forbidden: User \"x is forbidden: exceeded quota: q\" cannot create resource",
        ),
        status(
            403,
            "Forbidden",
            "pods",
            "a",
            "pods \"b\" is forbidden: exceeded quota: q",
        ),
        status(
            403,
            "Forbidden",
            "pods.example.com",
            "a",
            "pods \"a\" is forbidden: exceeded quota: q",
        ),
        Status::new(403, "Forbidden", "exceeded quota: q"),
        status(
            400,
            "Forbidden",
            "pods",
            "a",
            "pods \"a\" is forbidden: exceeded quota: q",
        ),
    ];
    for status in table {
        assert_eq!(
            class_of(status.code, status.encode(Encoding::Json)),
            Class::Rejected,
            "{status:?}"
        );
    }
    let job = status(
        403,
        "Forbidden",
        "jobs.batch",
        "j-",
        "jobs.batch \"j-\" is forbidden: exceeded quota: q, requested: count/jobs.batch=1",
    );
    assert_eq!(
        class_of(403, job.encode(Encoding::Protobuf)),
        Class::ExceededQuota
    );
}

#[test]
fn a_status_about_another_code_is_not_this_answers() {
    let body = status(409, "Conflict", "resourcequotas", "q", "x").encode(Encoding::Json);
    assert_eq!(class_of(502, &body), Class::Unrecognized);
    assert_eq!(class_of(201, &body), Class::Success);
    let body = status(0, "Conflict", "resourcequotas", "q", "x").encode(Encoding::Json);
    assert_eq!(class_of(409, &body), Class::QuotaConflict);
}

#[test]
fn truncated_answers_are_relayed() {
    for file in [
        "quota_conflict_409.http",
        "quota_conflict_409_protobuf.http",
        "too_many_requests_429.http",
    ] {
        let (code, headers, body) = sample(file);
        let whole = body.trim_ascii_end().len() - if file.contains("protobuf") { 5 } else { 1 };
        for end in 0..whole {
            assert_eq!(
                classify(code, &headers, &body[..end]).class,
                Class::Unrecognized,
                "{file} cut at {end}"
            );
        }
    }
    // YAML has no end mark: cut behind the last line that counts, it is still whole.
    let (code, headers, body) = sample("quota_conflict_409_yaml.http");
    for end in 0..body.len() {
        let class = classify(code, &headers, &body[..end]).class;
        assert!(
            matches!(
                class,
                Class::Unrecognized | Class::OtherConflict | Class::QuotaConflict
            ),
            "cut at {end}: {class:?}"
        );
    }
}

#[test]
fn retry_after_is_seconds_from_the_header_or_else_the_details() {
    let asked = |header: Option<&'static str>, details: u32| {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert("retry-after", HeaderValue::from_static(value));
        }
        let body = Status::new(429, "TooManyRequests", "x")
            .with_retry_after(details)
            .encode(Encoding::Json);
        classify(StatusCode::TOO_MANY_REQUESTS, &headers, &body)
            .retry_after
            .map(|wait| wait.as_secs())
    };
    assert_eq!(asked(None, 0), None);
    assert_eq!(asked(None, 5), Some(5));
    assert_eq!(asked(Some("2"), 5), Some(2));
    assert_eq!(asked(Some("0"), 5), Some(0));
    assert_eq!(asked(Some("Mon, 23 Nov 2026 04:45:24 GMT"), 0), None);
    assert_eq!(asked(Some("-1"), 5), Some(5));
    assert_eq!(asked(Some("1.5"), 0), None);
    assert_eq!(asked(Some("99999999999"), 0), None);
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
fn waits_as_long_as_asked_and_changes_servers_when_one_is_going() {
    let answer = |class, seconds| ClassifiedAnswer {
        class,
        retry_after: Some(Duration::from_secs(seconds)),
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
