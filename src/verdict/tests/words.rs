//! Words of a message prove something only in the right place.

use super::*;

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
        (
            Class::ServerError,
            Status::new(
                500,
                "InternalError",
                "admission webhook \"w\" denied the request: resource quota evaluates timeout",
            ),
        ),
        (
            Class::ServerError,
            Status::new(
                500,
                "InternalError",
                "Internal error occurred: the resource quota evaluates timeout",
            ),
        ),
    ];
    for (class, status) in table {
        for encoding in Encoding::ALL {
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
