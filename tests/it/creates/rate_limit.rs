//! The rate limit: creates wait for their turn or are told when to retry. Other requests never
//! wait.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{Method, StatusCode};
use kube_retry_proxy::config::{Config, Rate};
use model_control_plane::Encoding;
use model_control_plane::{Fault, Settings};
use tokio::task::JoinSet;

use super::{assert_own_status, attempts, brisk, conflict, ended, rig};
use crate::cases::every;
use crate::support::{Answer, Client, NAMESPACE, Protocol, Rig, eventually, sample, soon};

/// A burst of one create, and the next one after a thousand seconds.
const ONE: Rate = Rate::new(0.001, 1);

const WAITED: &str = "kube_retry_proxy_rate_limit_wait_seconds_count";

fn rejected(rig: &Rig, scope: &str) -> f64 {
    sample(
        &rig.proxy,
        &format!("kube_retry_proxy_rate_limit_rejected_total{{scope=\"{scope}\"}}"),
    )
}

async fn create_in(client: &mut Client, namespace: &str) -> Answer {
    let mut request = client.create_request("a");
    *request.uri_mut() = request
        .uri()
        .to_string()
        .replace(NAMESPACE, namespace)
        .parse()
        .unwrap();
    Answer::of(client.send(request).await).await
}

cases!(
    creates_wait_for_their_turn_and_pass,
    protocols,
    [
        global(|config, rate| config.rate_limit.global = Some(rate)),
        namespace(|config, rate| config.rate_limit.namespace = Some(rate)),
    ]
);
async fn creates_wait_for_their_turn_and_pass(protocol: Protocol, edit: fn(&mut Config, Rate)) {
    let rig = rig(|config| edit(config, Rate::new(20.0, 1))).await;
    let mut client = rig.client(protocol).await;
    // One turn of the rate limit may come between two of these creates, but hardly between all.
    for n in 0..4 {
        assert_eq!(
            client.create(&format!("pod-{n}")).await.status,
            StatusCode::CREATED
        );
    }
    assert!(sample(&rig.proxy, WAITED) >= 1.0);
    assert_eq!((attempts(&rig), ended(&rig, "created")), (4, 4.0));
    rig.stop().await;
}

cases!(
    beyond_the_longest_wait_a_create_gets_a_429_that_says_when_to_come_again,
    protocols,
    encodings
);
async fn beyond_the_longest_wait_a_create_gets_a_429_that_says_when_to_come_again(
    protocol: Protocol,
    encoding: Encoding,
) {
    let rig = rig(|config| config.rate_limit.global = Some(ONE)).await;
    let mut client = rig.client(protocol).await;
    assert_eq!(client.create("first").await.status, StatusCode::CREATED);
    let answer = Answer::of(
        client
            .send(client.create_request_in("second", encoding))
            .await,
    )
    .await;
    let status = assert_own_status(&answer, 429, "TooManyRequests", encoding);
    let seconds: i32 = answer.headers[RETRY_AFTER]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        (5..=1000).contains(&seconds),
        "beyond maxWait, and within the period: {seconds}"
    );
    assert_eq!(status.details().retry_after_seconds, seconds);
    assert_eq!(
        (
            attempts(&rig),
            rejected(&rig, "global"),
            ended(&rig, "rate_limited")
        ),
        (1, 1.0, 1.0)
    );
    rig.stop().await;
}

cases!(
    one_namespace_at_its_limit_leaves_the_others_alone,
    protocols
);
async fn one_namespace_at_its_limit_leaves_the_others_alone(protocol: Protocol) {
    let rig = rig(|config| config.rate_limit.namespace = Some(ONE)).await;
    rig.plane.create_namespace("other").unwrap();
    let mut client = rig.client(protocol).await;
    let mut codes = Vec::new();
    for namespace in [NAMESPACE, NAMESPACE, "other", "other"] {
        codes.push(create_in(&mut client, namespace).await.status.as_u16());
    }
    assert_eq!(codes, [201, 429, 201, 429]);
    assert_eq!(
        (rejected(&rig, "namespace"), rejected(&rig, "global")),
        (2.0, 0.0)
    );
    rig.stop().await;
}

cases!(the_global_limit_holds_over_all_namespaces, protocols);
async fn the_global_limit_holds_over_all_namespaces(protocol: Protocol) {
    let rig = rig(|config| config.rate_limit.global = Some(ONE)).await;
    rig.plane.create_namespace("other").unwrap();
    let mut client = rig.client(protocol).await;
    assert_eq!(
        create_in(&mut client, NAMESPACE).await.status,
        StatusCode::CREATED
    );
    assert_eq!(
        create_in(&mut client, "other").await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    rig.stop().await;
}

cases!(
    a_create_too_large_to_be_held_waits_in_the_same_line,
    protocols
);
async fn a_create_too_large_to_be_held_waits_in_the_same_line(protocol: Protocol) {
    let rig = rig(|config| {
        config.creates.max_body = 10;
        config.rate_limit.global = Some(ONE);
        config.rate_limit.max_wait = Duration::ZERO.try_into().unwrap();
    })
    .await;
    let mut client = rig.client(protocol).await;
    assert_eq!(client.create("a").await.status, StatusCode::CREATED);
    assert_eq!(
        client.create("b").await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!((attempts(&rig), ended(&rig, "rate_limited")), (1, 1.0));
    rig.stop().await;
}

cases!(
    nothing_but_creates_is_limited_and_replays_are_free,
    protocols
);
async fn nothing_but_creates_is_limited_and_replays_are_free(protocol: Protocol) {
    let rig = rig(|config| {
        brisk(config);
        config.rate_limit.global = Some(ONE);
        config.rate_limit.namespace = Some(ONE);
    })
    .await;
    rig.faults().next_create(conflict());
    let mut client = rig.client(protocol).await;
    assert_eq!(
        (client.create("a").await.status, attempts(&rig)),
        (StatusCode::CREATED, 2),
        "a replay takes no turn"
    );
    assert_eq!(
        client.create("b").await.status,
        StatusCode::TOO_MANY_REQUESTS
    );

    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    every(
        [
            "/version".to_owned(),
            pods.clone(),
            format!("{pods}/a"),
            format!("{pods}?watch=true&timeoutSeconds=0"),
        ],
        async |path| {
            assert_eq!(client.get(&path).await.status, StatusCode::OK, "{path}");
        },
    )
    .await;
    let dry_run = client
        .send(client.create_request_with("b", "?dryRun=All"))
        .await;
    assert_eq!(
        Answer::of(dry_run).await.status,
        StatusCode::CREATED,
        "a dry run"
    );
    let quota = client.request(
        Method::POST,
        &format!("/api/v1/namespaces/{NAMESPACE}/resourcequotas"),
        r#"{"metadata":{"name":"q"}}"#,
    );
    assert_eq!(
        Answer::of(client.send(quota).await).await.status,
        StatusCode::CREATED,
        "another resource"
    );
    let delete = client.request(Method::DELETE, &format!("{pods}/a"), "");
    assert_eq!(
        Answer::of(client.send(delete).await).await.status,
        StatusCode::OK
    );
    rig.stop().await;
}

#[tokio::test]
async fn there_is_no_limit_by_default() {
    let rig = Rig::with(
        Settings {
            apiservers: 1,
            ..Settings::quick()
        },
        |_| {},
    )
    .await;
    let mut client = rig.client(Protocol::Http1).await;
    for n in 0..50 {
        assert_eq!(
            client.create(&format!("pod-{n}")).await.status,
            StatusCode::CREATED
        );
    }
    assert_eq!(sample(&rig.proxy, WAITED), 0.0);
    rig.stop().await;
}

cases!(
    what_the_apiserver_refuses_leaves_the_limit_to_others,
    protocols
);
async fn what_the_apiserver_refuses_leaves_the_limit_to_others(protocol: Protocol) {
    let rig = rig(|config| {
        config.rate_limit.namespace = Some(ONE);
        config.rate_limit.max_namespaces = 2.try_into().unwrap();
        config.rate_limit.max_wait = Duration::ZERO.try_into().unwrap();
    })
    .await;
    rig.plane.create_namespace("other").unwrap();
    let ca = rig.proxy.ca_pem.clone().unwrap();
    let mut honest = rig.client(protocol).await;
    for n in 0..5 {
        // The apiserver closes an HTTP/2 connection after a 401.
        let mut stranger = Client::connect(
            rig.proxy.address,
            &ca,
            &format!("invalid-{}", n / 2),
            protocol,
        )
        .await;
        assert_eq!(
            stranger.create("a").await.status,
            StatusCode::UNAUTHORIZED,
            "{n}"
        );
        assert_eq!(
            create_in(&mut honest, &format!("invented-{n}"))
                .await
                .status,
            StatusCode::NOT_FOUND,
            "{n}"
        );
    }
    for namespace in [NAMESPACE, "other"] {
        assert_eq!(
            create_in(&mut honest, namespace).await.status,
            StatusCode::CREATED,
            "{namespace}"
        );
        assert_eq!(
            create_in(&mut honest, namespace).await.status,
            StatusCode::TOO_MANY_REQUESTS,
            "{namespace}"
        );
    }
    assert_eq!(rejected(&rig, "namespace"), 2.0);
    rig.stop().await;
}

#[tokio::test]
async fn creates_of_a_new_caller_wait_for_the_answer_to_the_first_and_then_count() {
    let rig = rig(|config| config.rate_limit.namespace = Some(Rate::new(0.001, 3))).await;
    rig.faults().next_create(Fault::Hold);
    let mut creates = JoinSet::new();
    for n in 0..6 {
        let mut client = rig.client(Protocol::Http1).await;
        creates.spawn(async move { client.create(&format!("pod-{n}")).await.status });
    }
    eventually("one has gone ahead", || attempts(&rig) == 1).await;
    rig.faults().release();
    let codes = soon(creates.join_all()).await;
    let of = |code| codes.iter().filter(|other| **other == code).count();
    assert_eq!(
        (of(StatusCode::CREATED), of(StatusCode::TOO_MANY_REQUESTS)),
        (3, 3),
        "{codes:?}"
    );
    rig.stop().await;
}
