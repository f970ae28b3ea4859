//! Every answer falls in its class: captured ones, and statuses in every encoding.

use super::*;

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
    // The same answers of another Kubernetes, or in another encoding, fall in the same class.
    let plain = |name: &str| {
        name.trim_start_matches("v1_37_")
            .trim_end_matches("_protobuf")
            .trim_end_matches("_cbor")
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
    assert_eq!(seen, 61);
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
        (Class::QuotaEvaluationTimeout, internal("resource quota evaluates timeout")),
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
        for encoding in Encoding::ALL {
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
        (Class::ShuttingDown, 500, "apiserver is shutting down.\n"),
        (
            Class::Unrecognized,
            500,
            "the apiserver is shutting down.\n",
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
fn truncated_answers_are_relayed() {
    for file in [
        "quota_conflict_409.http",
        "quota_conflict_409_protobuf.http",
        "quota_conflict_409_cbor.http",
        "too_many_requests_429.http",
    ] {
        let (code, headers, body) = sample(file);
        let idle = if file.contains("protobuf") { 5 } else { 1 };
        let whole = body.trim_ascii_end().len() - idle;
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
