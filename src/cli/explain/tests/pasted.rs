//! What people paste: the messages and logs of clients and controllers.

use super::*;
use crate::rows::every;

const CONFLICT: &str = "Operation cannot be fulfilled on resourcequotas \"compute-quota\": the object has been modified; please apply your changes to the latest version and try again";
const STATUS: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Operation cannot be fulfilled on resourcequotas \"compute-quota\": the object has been modified; please apply your changes to the latest version and try again","reason":"Conflict","details":{"name":"compute-quota","kind":"resourcequotas"},"code":409}"#;

/// `text` as a string in JSON, Go or logfmt.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

#[test]
fn a_whole_status_in_a_text_is_taken_as_it_is() {
    let python = "tests/samples/practice/explain-what-people-paste/python-apiexception.txt";
    let root = env!("CARGO_MANIFEST_DIR");
    let python = std::fs::read_to_string(format!("{root}/{python}")).unwrap();
    let indented =
        serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(STATUS).unwrap())
            .unwrap();
    every(
        [
            python,
            format!("HTTP response body: b'{}'", STATUS.replace('\\', "\\\\")),
            format!(
                "io.kubernetes.client.openapi.ApiException: Message: Conflict\nHTTP response code: 409\nHTTP response body: {STATUS}\nHTTP response headers: {{audit-id=[a]}}\n\tat a.B.c(D.java:1)"
            ),
            format!(
                "Error: HTTP-Code: 409\nMessage: Unknown API Status Code!\nBody: {}\nHeaders: {{\"audit-id\":\"a\"}}\n    at a",
                quoted(STATUS)
            ),
            format!(
                "I0101 12:00:00.000000    1 round_trippers.go:580] Response Status: 409 Conflict in 5 milliseconds\nI0101 12:00:00.000000    1 request.go:1212] Response Body: {STATUS}\n"
            ),
            format!(
                "I0101 12:00:00.000000    1 type.go:252] \"Response Body\" body={}\n",
                quoted(STATUS)
            ),
            format!(
                "I0101 12:00:00.000000    1 helpers.go:246] server response object: [{indented}]\nError from server (Conflict): x"
            ),
            format!("{{\"level\":\"error\",\"body\":{}}}", quoted(STATUS)),
            format!(
                "{{\"log\":{}}}",
                quoted(&format!(
                    "{{\"level\":\"error\",\"body\":{}}}",
                    quoted(STATUS)
                ))
            ),
        ],
        |text| {
            let explanation = explained(&text).unwrap();
            assert_eq!(
                (explanation.source, explanation.answer.class),
                (Source::Json, Class::QuotaConflict)
            );
            assert_eq!(
                explanation.status.unwrap().0,
                Status::decode(STATUS.as_bytes()).unwrap()
            );
        },
    );
}

#[test]
fn a_status_of_fabric8_is_read_from_its_fields() {
    let text =
        include_str!("../../../../tests/samples/practice/explain-what-people-paste/fabric8.txt");
    let group = text
        .replace(
            "group=null, kind=resourcequotas",
            "group=quota.openshift.io, kind=clusterresourcequotas",
        )
        .replace("retryAfterSeconds=null", "retryAfterSeconds=3");
    let explanation = explained(text).unwrap();
    assert_eq!(explanation.source, Source::Fabric8);
    assert_eq!(
        explanation.status.unwrap().0,
        Status::decode(STATUS.as_bytes()).unwrap()
    );
    let explanation = explained(group).unwrap();
    assert_eq!(explanation.answer.class, Class::ClusterQuotaConflict);
    assert_eq!(explanation.answer.retry_after, Some(Duration::from_secs(3)));
}

#[test]
fn a_message_alone_says_what_the_answer_was() {
    let kubectl =
        include_str!("../../../../tests/samples/practice/explain-what-people-paste/kubectl.txt");
    let text = explained(kubectl).unwrap().to_string();
    assert!(
        text.starts_with(
            "code      409 Conflict (from the message alone: code and reason are inferred)\n"
        ),
        "{text}"
    );
    every(
        [
            kubectl.to_owned(),
            CONFLICT.to_owned(),
            format!("Error: INSTALLATION FAILED: 1 error occurred:\n\t* {CONFLICT}\n\n"),
            format!("Error: UPGRADE FAILED: failed to create resource: {CONFLICT}"),
            format!(
                "time=\"2026-01-02T03:04:05Z\" level=warning msg=\"Failed to create pod\" error={} namespace=a",
                quoted(CONFLICT)
            ),
            format!(
                "{{\"level\":\"error\",\"ts\":\"2026\",\"msg\":\"Reconciler error\",\"error\":{}}}",
                quoted(CONFLICT)
            ),
            format!(
                "E0101 12:00:00.000000       1 job_controller.go:588] \"Unhandled Error\" err={}",
                quoted(&format!("syncing job: {CONFLICT}"))
            ),
            format!("message: 'Error (exit code 1): {CONFLICT}'"),
            format!(
                "status: {{phase: Error, message: \"{}\"}}",
                CONFLICT.replace('"', "\\\"")
            ),
            format!(
                "  Warning  FailedCreate  3s (x5 over 1m)  replicaset-controller  Error creating: {CONFLICT}"
            ),
            format!(
                "[2026-01-02, 03:04:05 UTC] {{pod.py:1}} ERROR - (409)\nReason: Conflict\nmessage: {CONFLICT}"
            ),
            format!(
                "{{'kind': 'Status', 'code': 409, 'message': '{CONFLICT}', 'reason': 'Conflict'}}"
            ),
            format!("<!-- {CONFLICT} -->"),
        ],
        |text| {
            let explanation = explained(&text).unwrap();
            assert_eq!(
                (explanation.source, explanation.answer.class),
                (Source::Message, Class::QuotaConflict)
            );
            assert_eq!(
                explanation.status.unwrap().0,
                Status::decode(STATUS.as_bytes()).unwrap()
            );
            assert_ne!(explanation.verdict, Verdict::Relay);
        },
    );
}

#[test]
fn the_messages_of_the_other_classes_are_known() {
    let precondition = "Operation cannot be fulfilled on resourcequotas \"q\": StorageError: invalid object, Code: 4, Key: /registry/resourcequotas/a/q, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: 1, UID in object meta: 2";
    let table = [
        (Class::QuotaConflictUid, precondition),
        (
            Class::ClusterQuotaConflict,
            "Operation cannot be fulfilled on clusterresourcequotas.quota.openshift.io \"q\": the object has been modified; please apply your changes to the latest version and try again",
        ),
        (
            Class::OtherConflict,
            "Operation cannot be fulfilled on pods \"p\": the object has been modified; please apply your changes to the latest version and try again",
        ),
        (
            Class::ExceededQuota,
            "Error creating: pods \"web-x2x\" is forbidden: exceeded quota: compute-quota, requested: pods=1, used: pods=5, limited: pods=5",
        ),
        (
            Class::ExceededQuota,
            "level=error error=\"jobs.batch \\\"a\\\" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: count/jobs.batch=5, limited: count/jobs.batch=5\" key=a",
        ),
        (
            Class::ExceededQuota,
            "pods is forbidden: exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5",
        ),
        (
            Class::QuotaSpec,
            "Error from server (Forbidden): error when creating \"p.yaml\": pods \"p\" is forbidden: failed quota: q: must specify limits.cpu for: m",
        ),
        (
            Class::QuotaStatusUnknown,
            "pods \"p\" is forbidden: status unknown for quota: q, resources: pods",
        ),
        (
            Class::NamespaceTerminating,
            "pods \"p\" is forbidden: unable to create new content in namespace a because it is being terminated",
        ),
        (
            Class::Rejected,
            "pods is forbidden: User \"system:serviceaccount:a:b\" cannot create resource \"pods\" in API group \"\" in the namespace \"team\"",
        ),
        (
            Class::Rejected,
            "admission webhook \"pods.projectcapsule.dev\" denied the request: pods \"p\" is forbidden: exceeded quota: c, requested: pods=1",
        ),
        (
            Class::AlreadyExists,
            "Error from server (AlreadyExists): error when creating \"p.yaml\": pods \"p\" already exists",
        ),
        (
            Class::GenerateNameExhausted,
            "pods \"p-x2x\" already exists, the server was not able to generate a unique name for the object",
        ),
        (
            Class::QuotaEvaluationTimeout,
            "Job failed (system failure): prepare environment: Internal error occurred: resource quota evaluates timeout. Check https://docs.example",
        ),
        (
            Class::QuotaEvaluationTimeout,
            "Internal error occurred: resource quota evaluation timed out",
        ),
        (
            Class::WebhookUnreachable,
            "Internal error occurred: failed calling webhook \"w.example.com\": failed to call webhook: Post \"https://w.a.svc:443/?timeout=10s\": context deadline exceeded",
        ),
        (
            Class::Throttled,
            "HTTP response headers: HTTPHeaderDict({'Retry-After': '1'})\nHTTP response body: Too many requests, please try again later.\n",
        ),
        (
            Class::Throttled,
            "the server has received too many requests and has asked us to try again later (post pods)",
        ),
        (
            Class::ShuttingDown,
            "Error from server (ServiceUnavailable): apiserver is shutting down",
        ),
        (
            Class::ShuttingDown,
            "The apiserver is shutting down, please try again later.",
        ),
        (
            Class::StartingUp,
            "the request has been made before all known HTTP paths have been installed, please try again",
        ),
        (
            Class::HandlerTimeout,
            "Error from server (Timeout): error when creating \"p.yaml\": Timeout: request did not complete within requested timeout - context deadline exceeded",
        ),
        (
            Class::HandlerTimeout,
            "the server was unable to return a response in the time allotted, but may still be processing the request (post pods)",
        ),
        (
            Class::StorageTimeout,
            "prepare environment: etcdserver: request timed out",
        ),
        (Class::EtcdOverload, "etcdserver: too many requests"),
        (
            Class::Unauthorized,
            "error: You must be logged in to the server (Unauthorized)",
        ),
        (
            Class::Rejected,
            "Error from server (NotFound): error when creating \"p.yaml\": namespaces \"a\" not found",
        ),
        (
            Class::Rejected,
            "Error from server (Invalid): error when creating \"p.yaml\": Pod \"p\" is invalid: spec: Required value",
        ),
        (
            Class::Rejected,
            "Error from server (BadRequest): error when creating \"p.yaml\": Pod in version \"v1\" cannot be handled as a Pod",
        ),
    ];
    every(table, |(class, text)| {
        let explanation = explained(text).unwrap();
        assert_eq!(explanation.source, Source::Message, "{text}");
        assert_eq!(explanation.answer.class, class, "{:?}", explanation.status);
    });
    let throttled = explained(table[16].1).unwrap();
    assert_eq!(throttled.answer.retry_after, Some(Duration::from_secs(1)));
}

#[test]
fn a_text_without_an_answer_says_what_is_expected() {
    every(
        [
            "Hello",
            "{\"kind\":\"Pod\",\"status\":{\"phase\":\"Failed\"}}",
            "Error from server (Nonsense): x",
            "kubernetes.client.exceptions.ApiException: (409)\nReason: Conflict\n",
            "{\"kind\":\"Status\",\"status\":\"Success\"}",
            "<html>502 Bad Gateway</html>",
        ],
        |text| {
            let error = explained(text).unwrap_err().to_string();
            assert!(error.contains("expected a first line like"), "{error}");
        },
    );
}

proptest! {
    #[test]
    fn pasted_texts_never_panic(text in "([{}\"'\\\\ é=:]|Status\\(apiVersion=|code=|, |Operation cannot be fulfilled on | \"a\": | is forbidden: | already exists|\" not found|admission webhook \"|Internal error occurred: |Retry-After|0\r\n|< HTTP/1.1 409\n|:status){0,12}") {
        if let Ok(explanation) = explained(&text) {
            let _ = explanation.to_string();
        }
    }
}
