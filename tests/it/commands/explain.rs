//! `explain` by the executable.

use super::*;

cases!(
    explain_tells_the_class_and_the_plan_of_a_captured_answer,
    [
        a_quota_conflict("quota_conflict_409", "quota_conflict", "replay"),
        a_quota_conflict_in_protobuf("quota_conflict_409_protobuf", "quota_conflict", "replay"),
        a_quota_conflict_in_cbor("quota_conflict_409_cbor", "quota_conflict", "replay"),
        an_exceeded_quota_in_cbor("exceeded_quota_403_cbor", "exceeded_quota", "relay"),
        a_pod_that_exists_in_cbor("already_exists_409_cbor", "already_exists", "relay"),
        a_quota_conflict_in_yaml("quota_conflict_409_yaml", "quota_conflict", "replay"),
        too_many_requests("too_many_requests_429", "throttled", "replay"),
        an_exceeded_quota("exceeded_quota_403", "exceeded_quota", "relay"),
        a_pod_that_exists("already_exists_409", "already_exists", "relay"),
        a_timeout_of_the_handler("etcd_stalled_timeout2s_504", "handler_timeout", "relay"),
        no_credentials("unauthorized_401", "unauthorized", "relay"),
        chunks_from_the_wire(
            "practice/explain-what-people-paste/chunked-from-the-wire",
            "quota_conflict",
            "replay"
        ),
        a_compressed_conflict("practice/gzip/conflict", "quota_conflict", "relay"),
        older_words(
            "practice/quota-evaluates-timeout/answer",
            "quota_evaluation_timeout",
            "relay"
        ),
        a_quota_of_a_webhook(
            "practice/hierarchical-quota-webhook/answer",
            "rejected",
            "relay"
        ),
    ]
);
async fn explain_tells_the_class_and_the_plan_of_a_captured_answer(
    name: &str,
    class: &str,
    verdict: &str,
) {
    let text = succeeded(run(command(&["explain", &sample(name)])).await);
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    assert_eq!(
        (value("class").as_str(), value("verdict").as_str()),
        (class, verdict),
        "{name}: {text}"
    );
    assert_eq!(
        text.contains("replay 1 "),
        verdict == "replay",
        "{name}: {text}"
    );
    let raw = std::fs::read(sample(name)).unwrap();
    assert_eq!(
        succeeded(run_with_input(command(&["explain"]), &raw).await),
        text,
        "{name} on stdin"
    );
    assert_eq!(
        succeeded(run_with_input(command(&["explain", "-"]), &raw).await),
        text,
        "{name} as -"
    );
}

cases!(
    explain_reads_what_people_paste,
    [
        kubectl("kubectl", "from the message alone"),
        python("python-apiexception", "from the Status in the text"),
        fabric8("fabric8", "as fabric8 prints it"),
    ]
);
async fn explain_reads_what_people_paste(name: &str, from: &str) {
    let path =
        sample(&format!("practice/explain-what-people-paste/{name}")).replace(".http", ".txt");
    let text = succeeded(run(command(&["explain", &path])).await);
    for part in [
        "code      409 Conflict",
        from,
        "class     quota_conflict\n",
        "verdict   replay\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn explain_asks_the_configuration_and_refuses_what_is_no_answer() {
    let place = Place::new().await;
    let config =
        place.config("replay: {exceededQuota: {enabled: true, maxAttempts: 3, maxHold: 5s}}\n");
    let text = succeeded(
        run(command(&[
            "explain",
            "--config",
            &config,
            &sample("exceeded_quota_403"),
        ]))
        .await,
    );
    assert!(
        text.contains("verdict   replay") && text.contains("at most 3 attempts within 5s"),
        "{text}"
    );
    let quoted = succeeded(run(command(&["explain", &sample("quota_conflict_409")])).await);
    assert!(
        quoted.contains("on resourcequotas \"") && quoted.contains("after 0s to 100ms"),
        "{quoted}"
    );
    every(
        [
            (&b""[..], "empty"),
            (b"HTTP/1.1 nothing\n\n", "line 1"),
            (b"{\"kind\":\"Pod\"}", "neither a status line"),
        ],
        async |(raw, part)| {
            let ended = run_with_input(command(&["explain"]), raw).await;
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
            assert!(ended.stderr.contains(part), "{}", ended.stderr);
        },
    )
    .await;
}
