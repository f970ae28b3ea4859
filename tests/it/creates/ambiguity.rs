//! Creates without an answer are replayed only if the apiserver certainly did not process them.

use http::StatusCode;
use http::header::{ACCEPT, RETRY_AFTER};
use model_control_plane::Encoding;
use model_control_plane::Fault;
use tokio::task::JoinSet;

use super::{assert_each_stored_once, assert_own_status, attempts, brisk, ended, replays, rig};
use crate::support::{Answer, NAMESPACE, Protocol, Rig, eventually, speaking};

cases!(
    a_create_whose_answer_is_lost_is_never_sent_again,
    pairs,
    [
        lost_after_it_was_stored(Fault::LoseAnswer, 1, Encoding::Json),
        cut_after_it_was_stored(Fault::CutAfter, 1, Encoding::Protobuf),
        reset_before_it_was_stored(Fault::Reset, 0, Encoding::Yaml),
        cut_before_it_was_stored(Fault::Cut, 0, Encoding::Json),
    ]
);
async fn a_create_whose_answer_is_lost_is_never_sent_again(
    down: Protocol,
    up: Protocol,
    fault: Fault,
    stored: usize,
    encoding: Encoding,
) {
    let rig = Rig::with(speaking(up), brisk).await;
    rig.faults().next_create(fault);
    let mut client = rig.client(down).await;
    let answer = Answer::of(client.send(client.create_request_in("a", encoding)).await).await;
    let status = assert_own_status(&answer, 504, "Timeout", encoding);
    assert_eq!(
        (
            answer.headers.get(RETRY_AFTER),
            status.details().retry_after_seconds
        ),
        (None, 0),
        "client-go would send it again"
    );
    assert_eq!(
        (attempts(&rig), rig.plane.pods(NAMESPACE).len()),
        (1, stored)
    );
    assert_eq!(ended(&rig, "no_answer"), 1.0);
    assert_each_stored_once(&rig);
    rig.stop().await;
}

cases!(a_closed_connection_of_http1_proves_nothing, protocols);
async fn a_closed_connection_of_http1_proves_nothing(protocol: Protocol) {
    let rig = Rig::with(speaking(Protocol::Http1), brisk).await;
    rig.faults().next_create(Fault::Refuse);
    let answer = rig.client(protocol).await.create("a").await;
    assert_own_status(&answer, 504, "Timeout", Encoding::Json);
    assert_eq!(attempts(&rig), 1);
    rig.stop().await;
}

cases!(an_error_answer_that_breaks_off_is_not_replayed, pairs);
async fn an_error_answer_that_breaks_off_is_not_replayed(down: Protocol, up: Protocol) {
    let rig = Rig::with(speaking(up), |config| {
        brisk(config);
        config.replay.exceeded_quota.enabled = true;
    })
    .await;
    rig.plane
        .create_quota(NAMESPACE, "no-pods", &[("pods", "0")])
        .unwrap();
    rig.faults().next_create(Fault::Truncate);
    let answer = rig.client(down).await.create("a").await;
    assert_own_status(&answer, 504, "Timeout", Encoding::Json);
    assert_eq!(answer.headers.get(RETRY_AFTER), None);
    assert_eq!((attempts(&rig), ended(&rig, "no_answer")), (1, 1.0));
    rig.stop().await;
}

cases!(
    a_success_that_breaks_off_is_told_as_lost_and_not_replayed,
    pairs
);
async fn a_success_that_breaks_off_is_told_as_lost_and_not_replayed(down: Protocol, up: Protocol) {
    let rig = Rig::with(speaking(up), brisk).await;
    rig.faults().next_create(Fault::Truncate);
    let answer = rig.client(down).await.create("a").await;
    assert_own_status(&answer, 504, "Timeout", Encoding::Json);
    assert_eq!(
        (
            attempts(&rig),
            ended(&rig, "no_answer"),
            rig.plane.pods(NAMESPACE).len()
        ),
        (1, 1.0, 1)
    );
    rig.stop().await;
}

cases!(creates_wait_for_an_apiserver_that_is_down, protocols);
async fn creates_wait_for_an_apiserver_that_is_down(protocol: Protocol) {
    let rig = rig(|config| {
        brisk(config);
        config.replay.max_attempts = kube_retry_proxy::config::Attempts::MAX;
        config.replay.budget.other.per_second = 1_000_000.try_into().unwrap();
    })
    .await;
    let mut client = rig.client(protocol).await;
    assert_eq!(client.create("before").await.status, StatusCode::CREATED);
    rig.faults().set_down(true);
    let create = tokio::spawn(async move { client.create("a").await });
    eventually("it is tried again", || {
        replays(&rig, "connect_failed") >= 3.0
    })
    .await;
    rig.faults().set_down(false);
    assert_eq!(create.await.unwrap().status, StatusCode::CREATED);
    assert_eq!(attempts(&rig), 2);
    assert_each_stored_once(&rig);
    rig.stop().await;
}

cases!(
    an_apiserver_that_stays_down_is_told_in_a_503_that_may_be_sent_again,
    protocols,
    encodings
);
async fn an_apiserver_that_stays_down_is_told_in_a_503_that_may_be_sent_again(
    protocol: Protocol,
    encoding: Encoding,
) {
    let rig = rig(|config| {
        brisk(config);
        config.replay.max_attempts = 3.try_into().unwrap();
    })
    .await;
    rig.faults().set_down(true);
    let mut client = rig.client(protocol).await;
    let answer = Answer::of(client.send(client.create_request_in("a", encoding)).await).await;
    let status = assert_own_status(&answer, 503, "ServiceUnavailable", encoding);
    assert_eq!(
        (
            &answer.headers[RETRY_AFTER],
            status.details().retry_after_seconds
        ),
        (&"1".parse().unwrap(), 1)
    );
    assert_eq!(
        (
            attempts(&rig),
            replays(&rig, "connect_failed"),
            ended(&rig, "no_answer")
        ),
        (0, 2.0, 1.0)
    );
    rig.stop().await;
}

cases!(
    an_own_answer_is_json_where_the_client_has_no_preference,
    [
        no_accept(None),
        anything(Some("*/*")),
        html(Some("text/html")),
        a_table_or_json(Some(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
        )),
    ]
);
async fn an_own_answer_is_json_where_the_client_has_no_preference(accept: Option<&str>) {
    let rig = rig(|config| config.replay.max_attempts = 1.try_into().unwrap()).await;
    rig.faults().set_down(true);
    let mut client = rig.client(Protocol::Http1).await;
    let mut request = client.create_request("a");
    request.headers_mut().remove(ACCEPT);
    if let Some(accept) = accept {
        request
            .headers_mut()
            .insert(ACCEPT, accept.parse().unwrap());
    }
    let answer = Answer::of(client.send(request).await).await;
    assert_own_status(&answer, 503, "ServiceUnavailable", Encoding::Json);
    rig.stop().await;
}

cases!(a_refused_stream_is_replayed, protocols);
async fn a_refused_stream_is_replayed(protocol: Protocol) {
    let rig = rig(brisk).await;
    rig.faults().next_create(Fault::Refuse);
    rig.faults().next_create(Fault::Refuse);
    assert_eq!(
        rig.client(protocol).await.create("a").await.status,
        StatusCode::CREATED
    );
    assert_eq!((attempts(&rig), replays(&rig, "refused")), (3, 2.0));
    assert_each_stored_once(&rig);
    rig.stop().await;
}

cases!(an_apiserver_that_keeps_going_away_loses_nothing, protocols);
async fn an_apiserver_that_keeps_going_away_loses_nothing(protocol: Protocol) {
    let rig = rig(brisk).await;
    rig.faults().every_create(Some(Fault::GoAway));
    let mut creates = JoinSet::new();
    for lane in 0..10 {
        let mut client = rig.client(protocol).await;
        creates.spawn(async move {
            for n in 0..10 {
                let answer = client.create(&format!("pod-{lane}-{n}")).await;
                assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
            }
        });
    }
    creates.join_all().await;
    assert_eq!(rig.plane.pods(NAMESPACE).len(), 100);
    assert_each_stored_once(&rig);
    rig.stop().await;
}

cases!(
    creates_under_way_survive_a_goaway_and_later_ones_go_elsewhere,
    protocols
);
async fn creates_under_way_survive_a_goaway_and_later_ones_go_elsewhere(protocol: Protocol) {
    let rig = rig(|config| {
        brisk(config);
        config.upstream.connections_per_lane = 1.try_into().unwrap();
    })
    .await;
    let mut creates = JoinSet::new();
    for n in 0..5 {
        rig.faults().next_create(Fault::Hold);
        let mut client = rig.client(protocol).await;
        creates.spawn(async move { client.create(&format!("held-{n}")).await.status });
    }
    eventually("all are under way", || {
        rig.plane
            .journal()
            .creates()
            .iter()
            .filter(|create| create.body > 0)
            .count()
            == 5
    })
    .await;
    rig.faults().go_away();
    let mut client = rig.client(protocol).await;
    for n in 0..5 {
        assert_eq!(
            client.create(&format!("later-{n}")).await.status,
            StatusCode::CREATED
        );
    }
    assert!(
        creates.try_join_next().is_none(),
        "those under way still are"
    );
    rig.faults().release();
    assert_eq!(creates.join_all().await, [StatusCode::CREATED; 5]);
    assert_eq!(rig.plane.pods(NAMESPACE).len(), 10);
    assert_each_stored_once(&rig);
    rig.stop().await;
}
