//! What the capture shows about the request, and what the configuration says.

use super::*;
use crate::config::file;
use crate::rows::every;

const CONFLICT: &str = "Operation cannot be fulfilled on resourcequotas \"q\": the object has been modified; please apply your changes to the latest version and try again";
const STATUS: &str = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"Operation cannot be fulfilled on resourcequotas \"q\": the object has been modified; please apply your changes to the latest version and try again","reason":"Conflict","details":{"name":"q","kind":"resourcequotas"},"code":409}"#;
const PODS: &str = "/api/v1/namespaces/a/pods";

fn curl(method: &str, target: &str, headers: &str) -> String {
    format!(
        "* Connected\n> {method} {target} HTTP/2\n> Host: a\n{headers}>\n< HTTP/2 409 \n< \n{STATUS}\n"
    )
}

fn kubectl(method: &str, target: &str, headers: &str) -> String {
    let head = "I0102 03:04:05.000000    1 round_trippers.go:466]";
    format!(
        "{head} GET https://10.0.0.1:6443/openapi/v3?timeout=32s\n{head} Response Status: 200 OK in 1 milliseconds\n\
         {head} {method} https://10.0.0.1:6443{target}\n{headers}{head} Response Status: 409 Conflict in 5 milliseconds\n\
         {head} Response Body: {STATUS}\n{head} GET https://10.0.0.1:6443/api/v1/namespaces/a\n"
    )
}

fn structured(method: &str, target: &str, headers: &str) -> String {
    let head = "I0102 03:04:05.000000    1 round_trippers.go:527]";
    format!(
        "{head} \"Request\" verb=\"{method}\" url=\"https://10.0.0.1:6443{target}\" headers=<\n{headers}>\n\
         {head} \"Response\" status=\"409 Conflict\" headers=\"\" milliseconds=5\n{head} \"Response Body\" body={STATUS:?}\n"
    )
}

fn fabric8(method: &str, target: &str, _: &str) -> String {
    format!("Failure executing: {method} at: https://10.0.0.1:6443{target}. Message: {CONFLICT}.")
}

#[test]
fn a_request_that_is_no_create_is_relayed_with_the_reason() {
    let of = |path: &str| format!("{PODS}{path}");
    let apply = "> Content-Type: application/apply-patch+yaml\n";
    let rows = [
        ("POST", of(""), "", ""),
        ("POST", of("?fieldManager=kubectl-create"), "", ""),
        (
            "POST",
            of("?dryRun=All"),
            "",
            "a dry run does not change the quota",
        ),
        ("PUT", of("/a"), "", "PUT of this path is no create"),
        ("GET", of(""), "", "GET of this path is no create"),
        ("DELETE", of("/a"), "", "DELETE of this path is no create"),
        (
            "PATCH",
            of("/a"),
            "",
            "a patch that is no server-side apply",
        ),
        (
            "PATCH",
            of("/a?fieldManager=x"),
            apply,
            "creates.serverSideApply",
        ),
        ("POST", of("/a/eviction"), "", "a request to pods/eviction"),
        (
            "POST",
            "/api/v1/namespaces".into(),
            "",
            "an object without a namespace",
        ),
        (
            "POST",
            "/apis/coordination.k8s.io/v1/namespaces/a/leases".into(),
            "",
            "leases.coordination.k8s.io",
        ),
    ];
    every(rows, |(method, target, headers, reason)| {
        every([curl, kubectl, structured, fabric8], |form| {
            // fabric8 does not show the headers.
            if !headers.is_empty() && form(method, &target, "").starts_with("Failure") {
                return;
            }
            let config = "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\ncreates: {serverSideApply: false}\n";
            let text = form(method, &target, headers);
            let explanation = explain(text.as_bytes(), &file::parse(config).unwrap()).unwrap();
            let printed = explanation.to_string();
            assert_eq!(explanation.answer.class, Class::QuotaConflict);
            assert!(
                printed.contains(&format!("request   {method} {target}\n")),
                "{printed}"
            );
            assert_eq!(
                explanation.verdict == Verdict::Relay,
                !reason.is_empty(),
                "{printed}"
            );
            assert!(printed.contains(reason), "{printed}");
        });
    });
    // The URL of a webhook is no request.
    let webhook = "Internal error occurred: failed calling webhook \"w\": Post \"https://w.a.svc:443/?timeout=10s\": EOF";
    assert_eq!(explained(webhook).unwrap().request, None);
}

#[test]
fn the_timeout_of_the_client_bounds_the_plan() {
    let text = explained(curl("POST", &format!("{PODS}?timeout=2s"), "")).unwrap();
    assert_eq!(text.timeout, Some(Duration::from_secs(2)));
    assert!(
        text.plan
            .iter()
            .all(|pause| pause.held_at_most <= Duration::from_secs(2))
    );
    assert!(
        text.to_string()
            .contains("within the client's timeout of 2s"),
        "{text}"
    );
    let text = explained(curl("POST", &format!("{PODS}?timeout=1s"), "").replace(
        "< HTTP/2 409 \n< \n",
        "< HTTP/2 409 \n< Retry-After: 1\n< \n",
    ));
    assert!(text.unwrap().to_string().contains("plan      none: "));
}

#[test]
fn the_mode_and_the_opt_ins_are_named() {
    let exceeded = "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5";
    every(
        [
            (
                CONFLICT,
                "mode: Off",
                "verdict   relay\nplan      none: mode is Off\n",
            ),
            (
                CONFLICT,
                "mode: Observe",
                "verdict   relay\nplan      counted only: mode is Observe\n",
            ),
            (
                CONFLICT,
                "mode: Enforce",
                "verdict   replay\nplan      at most",
            ),
            (
                exceeded,
                "mode: Enforce",
                "verdict   relay\nnote      replayed if replay.exceededQuota.enabled is true\n",
            ),
            (
                exceeded,
                "replay: {exceededQuota: {enabled: true}}",
                "verdict   replay\n",
            ),
            (
                "pods \"p\" is forbidden: status unknown for quota: q, resources: pods",
                "",
                "note      replayed if replay.quotaStatusUnknown.enabled is true\n",
            ),
            (
                "Internal error occurred: resource quota evaluation timed out",
                "",
                "note      replayed if replay.quotaEvaluationTimeout.enabled is true\n",
            ),
            (
                "Internal error occurred: failed calling webhook \"w\": x",
                "",
                "note      replayed if replay.webhookUnreachable.enabled is true\n",
            ),
        ],
        |(text, config, says)| {
            let config = format!(
                "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\n{config}\n"
            );
            let printed = explain(text.as_bytes(), &file::parse(&config).unwrap())
                .unwrap()
                .to_string();
            assert!(printed.contains(says), "{printed}");
        },
    );
}

#[test]
fn an_update_of_a_quota_gives_the_same_message() {
    every(
        [
            "Error from server (Conflict): error when replacing \"q.yaml\": ",
            "error: resourcequotas \"q\" could not be patched: ",
            "Error from server (Conflict): error when applying patch:\n{}\nto:\n",
        ],
        |before| {
            let printed = explained(format!("{before}{CONFLICT}"))
                .unwrap()
                .to_string();
            assert!(
                printed.contains("note      an update of a ResourceQuota itself"),
                "{printed}"
            );
        },
    );
    assert!(!explained(CONFLICT).unwrap().of_update);
}

#[test]
fn a_text_without_an_answer_says_what_it_tells() {
    every(
        [
            (
                "dial tcp 10.0.0.1:6443: connect: connection refused",
                "sends the create again (connect_failed)",
            ),
            (
                "read tcp 10.0.0.1:1->10.0.0.2:6443: read: connection reset by peer",
                "does not send the create again",
            ),
            (
                "http2: server sent GOAWAY and closed the connection; LastStreamID=1",
                "would not process this request",
            ),
            ("net/http: TLS handshake timeout", "nothing was sent"),
            (
                "net/http: request canceled (Client.Timeout exceeded while awaiting headers)",
                "may be stored",
            ),
            (
                "java.net.SocketTimeoutException: timeout",
                "the client got no answer (SocketTimeoutException)",
            ),
            (
                "I0102 03:04:05.000000 1 round_trippers.go:553] POST https://10.0.0.1/api/v1/namespaces/a/pods 409 Conflict in 9 milliseconds",
                "the code alone (409 Conflict) does not tell",
            ),
            (
                "{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"verb\":\"create\"}",
                "use --audit-log",
            ),
        ],
        |(text, says)| {
            let error = explained(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        },
    );
}

#[test]
fn a_long_log_is_read_to_its_end() {
    let noise = "2026-01-02T03:04:05Z info all is well\n".repeat((3 << 20) / 38);
    for at in [0, (1 << 20) - 100, (1 << 20) - 60, 2 << 20, noise.len()] {
        let text = format!("{}\n{CONFLICT}\n{}", &noise[..at], &noise[at..]);
        let explanation = explained(text).unwrap();
        assert_eq!(explanation.answer.class, Class::QuotaConflict, "{at}");
        assert!(
            explanation.others.is_empty() && !explanation.cut,
            "{explanation}"
        );
    }
}
