//! One server fails, goes away or returns while few requests are open.

use std::collections::BTreeSet;
use std::time::Duration;

use http::StatusCode;
use model_control_plane::{Canned, Fault, Settings};
use tokio::task::JoinSet;

use super::{SERVERS, count, quick};
use crate::support::streaming::{Streamed, watch_path};
use crate::support::{
    Protocol, Rig, eventually, proxy_in_front_of, sample, servers_up, soon, speaking,
};

cases!(
    requests_go_on_to_the_next_server_where_one_cannot_be_reached,
    protocols
);
async fn requests_go_on_to_the_next_server_where_one_cannot_be_reached(down: Protocol) {
    // The failover must succeed without replays.
    let rig = Rig::listed(quick(), |config| {
        config.replay.max_attempts = 1.try_into().unwrap()
    })
    .await;
    let namespaces: Vec<_> = (0..10).map(|n| format!("team-{n}")).collect();
    namespaces
        .iter()
        .for_each(|namespace| rig.plane.create_namespace(namespace).unwrap());
    let mut client = rig.client(down).await;
    eventually("all are up", || servers_up(&rig.proxy) == SERVERS).await;
    for index in 1..SERVERS {
        rig.plane.faults(index).unwrap().set_down(true);
    }
    // The lanes of creates and streams have no connections yet, so no request can be lost on them.
    for namespace in &namespaces {
        assert_eq!(
            client.create_in(namespace, "a").await.status,
            StatusCode::CREATED
        );
        drop(
            Streamed::open(
                &mut rig.client(down).await,
                &watch_path(),
                "application/json",
            )
            .await,
        );
    }
    assert_eq!(
        count(&rig.plane.journal().attempts(), |attempt| attempt.apiserver
            == 0),
        20
    );
    eventually("those are down", || servers_up(&rig.proxy) == 1).await;
    let told = rig.admin("/readyz?verbose").await.text();
    assert!(
        told.contains("[+]upstream ok: ")
            && told.matches(" is up").count() == 1
            && told.matches(" is down: ").count() == 2,
        "{told}"
    );

    rig.faults().set_down(true);
    eventually("all are down", || servers_up(&rig.proxy) == 0).await;
    let told = rig.admin("/readyz?verbose").await.text();
    assert!(
        told.contains("[-]upstream failed: no healthy upstream: "),
        "{told}"
    );
    assert_eq!(
        client.get("/livez").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(
        client.create("late").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    rig.plane.faults(2).unwrap().set_down(false);
    // The proxy uses a server that has not been probed again, because no other server remains.
    assert_eq!(client.create("later").await.status, StatusCode::CREATED);
    rig.stop().await;
}

cases!(
    a_shutting_down_answer_sends_the_create_to_another_server_at_once,
    protocols
);
async fn a_shutting_down_answer_sends_the_create_to_another_server_at_once(protocol: Protocol) {
    // The answer asks for a pause of five seconds. Other servers need neither the pause nor the
    // budget.
    let rig = Rig::listed(quick(), |config| {
        config.replay.max_hold = Duration::from_secs(4);
        config.replay.budget.other.per_second = 0.try_into().unwrap();
        config.replay.budget.other.ratio = 0.0.try_into().unwrap();
    })
    .await;
    let mut client = rig.client(protocol).await;
    client.create("first").await;
    let own = rig.plane.journal().creates()[0].apiserver;
    rig.plane
        .faults(own)
        .unwrap()
        .answer_readyz(Some(Canned::shutting_down()));
    rig.plane
        .faults(own)
        .unwrap()
        .next_create(Fault::Answer(Canned::shutting_down()));
    for n in 0..5 {
        assert_eq!(
            client.create(&format!("pod-{n}")).await.status,
            StatusCode::CREATED
        );
    }
    let creates = rig.plane.journal().creates();
    assert_eq!(
        count(&creates, |create| create.apiserver == own),
        2,
        "it was left at its first such answer"
    );
    assert_eq!(
        creates[2..]
            .iter()
            .map(|create| create.apiserver)
            .collect::<BTreeSet<_>>()
            .len(),
        1
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_server_is_left_when_it_announces_its_shutdown_and_only_its_namespaces_move() {
    let rig = Rig::listed(quick(), |_| {}).await;
    let mut client = rig.client(Protocol::Http1).await;
    let namespaces: Vec<_> = (0..12).map(|n| format!("team-{n}")).collect();
    namespaces
        .iter()
        .for_each(|namespace| rig.plane.create_namespace(namespace).unwrap());
    let mut at = async |name: &str| {
        let before = rig.plane.journal().creates().len();
        for namespace in &namespaces {
            assert_eq!(
                client.create_in(namespace, name).await.status,
                StatusCode::CREATED
            );
        }
        rig.plane.journal().creates()[before..]
            .iter()
            .map(|create| create.apiserver)
            .collect::<Vec<_>>()
    };
    let before = at("before").await;
    let left = before[0];
    for answer in [
        Canned::shutting_down(),
        Canned::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain",
            "[-]etcd failed",
        ),
    ] {
        rig.plane.faults(left).unwrap().answer_readyz(Some(answer));
        eventually("it is left", || servers_up(&rig.proxy) == SERVERS - 1).await;
        let during = at(&format!("during-{}", rig.plane.journal().len())).await;
        for (before, during) in before.iter().zip(&during) {
            assert!(
                if *before == left {
                    *during != left
                } else {
                    during == before
                },
                "{before} {during}"
            );
        }
        rig.plane.faults(left).unwrap().answer_readyz(None);
        eventually("it is back", || servers_up(&rig.proxy) == SERVERS).await;
        assert_eq!(
            at(&format!("after-{}", rig.plane.journal().len())).await,
            before
        );
    }
    let moved = |why| {
        sample(
            &rig.proxy,
            &format!("kube_retry_proxy_upstream_pins_moved_total{{why=\"{why}\"}}"),
        )
    };
    let own = 2.0 * before.iter().filter(|server| **server == left).count() as f64;
    assert_eq!((moved("failed"), moved("returned")), (own, own));
    rig.stop().await;
}

#[tokio::test]
async fn probing_costs_other_requests_no_connection() {
    let rig = Rig::speaking(Protocol::Http2).await;
    let mut client = rig.client(Protocol::Http1).await;
    client.get("/echo").await;
    let probed = rig.faults().probes();
    eventually("it is probed again and again", || {
        rig.faults().probes() >= probed + 2
    })
    .await;
    client.get("/echo").await;
    let attempts = rig.plane.journal().attempts();
    assert_eq!(attempts[0].connection, attempts[1].connection);
    assert_eq!(
        sample(
            &rig.proxy,
            "kube_retry_proxy_upstream_errors_total{kind=\"refused\"}"
        ),
        0.0
    );
    rig.stop().await;
}

cases!(
    a_server_that_lets_nobody_read_its_readiness_is_alive,
    [
        unauthorized(StatusCode::UNAUTHORIZED),
        forbidden(StatusCode::FORBIDDEN),
        not_found(StatusCode::NOT_FOUND),
    ]
);
async fn a_server_that_lets_nobody_read_its_readiness_is_alive(code: StatusCode) {
    let plane = crate::support::plane(quick()).await;
    for index in 0..SERVERS {
        plane
            .faults(index)
            .unwrap()
            .answer_readyz(Some(Canned::new(code, "text/plain", "")));
    }
    let proxy = proxy_in_front_of(&plane.urls(), plane.ca_pem(), |_| {}).await;
    eventually("all are up", || servers_up(&proxy) == SERVERS).await;
    Rig { plane, proxy }.stop().await;
}

cases!(
    after_a_connection_broke_creates_use_no_other_that_was_open,
    [
        a_cut_in_http2(Protocol::Http2, Fault::Cut),
        a_cut_in_http1(Protocol::Http1, Fault::Cut),
        a_truncated_answer_in_http1(Protocol::Http1, Fault::Truncate),
    ]
);
/// The connections of a server that dies fail one after the other, within milliseconds.
async fn after_a_connection_broke_creates_use_no_other_that_was_open(up: Protocol, fault: Fault) {
    let rig = Rig::listed(
        Settings {
            apiservers: SERVERS,
            ..speaking(up)
        },
        |_| {},
    )
    .await;
    let connections = || {
        rig.plane
            .journal()
            .creates()
            .iter()
            .map(|create| create.connection)
            .collect::<BTreeSet<_>>()
    };
    let own = {
        rig.client(Protocol::Http1).await.create("first").await;
        rig.plane.journal().creates()[0].apiserver
    };
    let faults = rig.plane.faults(own).unwrap();
    // Several concurrent creates, so that there are several connections.
    let mut waiting = JoinSet::new();
    for n in 0..8 {
        faults.next_create(Fault::Hold);
        let mut client = rig.client(Protocol::Http1).await;
        waiting.spawn(async move { client.create(&format!("held-{n}")).await.status });
        eventually("it is held", || {
            rig.plane.journal().creates().len() == 2 + n
        })
        .await;
    }
    faults.release();
    assert!(
        soon(waiting.join_all())
            .await
            .iter()
            .all(|status| *status == StatusCode::CREATED)
    );
    let open = connections();
    assert!(open.len() > 2, "{open:?}");

    faults.next_create(fault);
    let mut client = rig.client(Protocol::Http1).await;
    assert_eq!(
        client.create("lost").await.status,
        StatusCode::GATEWAY_TIMEOUT
    );
    let before = rig.plane.journal().creates().len();
    for n in 0..8 {
        assert_eq!(
            client.create(&format!("after-{n}")).await.status,
            StatusCode::CREATED
        );
    }
    let after = &rig.plane.journal().creates()[before..];
    assert!(
        after
            .iter()
            .all(|create| create.apiserver == own && !open.contains(&create.connection)),
        "{after:?}"
    );
    rig.stop().await;
}

/// Until it has read the roles of RBAC, an apiserver that is starting forbids every request,
/// including `/readyz`.
#[tokio::test]
async fn a_restarted_server_is_not_used_before_it_knows_who_may_do_what() {
    let rig = Rig::listed(quick(), |_| {}).await;
    let mut client = rig.client(Protocol::Http1).await;
    eventually("all are up", || servers_up(&rig.proxy) == SERVERS).await;
    assert_eq!(client.create("before").await.status, StatusCode::CREATED);
    let own = rig.plane.journal().creates()[0].apiserver;
    let faults = rig.plane.faults(own).unwrap();
    faults.set_down(true);
    eventually("it is left", || servers_up(&rig.proxy) == SERVERS - 1).await;
    let forbidden = Canned::new(StatusCode::FORBIDDEN, "application/json", "{}");
    faults.answer_readyz(Some(forbidden.clone()));
    faults.every_request(Some(Fault::Answer(forbidden)));
    let probed = faults.probes();
    faults.set_down(false);
    eventually("it is probed again", || faults.probes() >= probed + 2).await;
    for n in 0..5 {
        assert_eq!(
            client.create(&format!("starting-{n}")).await.status,
            StatusCode::CREATED
        );
    }
    let told = rig.admin("/readyz?verbose").await.text();
    assert!(told.contains("is down: it is starting up"), "{told}");
    faults.clear();
    eventually("it is back", || servers_up(&rig.proxy) == SERVERS).await;
    assert_eq!(client.create("after").await.status, StatusCode::CREATED);
    assert_eq!(rig.plane.journal().creates().last().unwrap().apiserver, own);
    rig.stop().await;
}
