//! Several servers: creates keep to one, everything else is spread, and a server that fails or goes
//! away costs nobody an error.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use kube_retry_proxy::config::Pin;
use kube_retry_proxy::model::{Attempt, Canned, Fault, QuotaOutcome, Settings};
use tokio::task::JoinSet;

use crate::support::streaming::{Streamed, watch_path};
use crate::support::{
    BOTH, Client, NAMESPACE, Protocol, Rig, eventually, proxy_before, sample, servers_up, soon,
    speaking,
};

const SERVERS: usize = 3;

/// Three apiservers that take no time.
fn quick() -> Settings {
    Settings {
        apiservers: SERVERS,
        ..Settings::quick()
    }
}

#[tokio::test]
async fn creates_of_a_namespace_keep_to_one_apiserver_which_all_replicas_choose() {
    let rig = Rig::listed(quick(), |_| {}).await;
    let mut turned = rig.plane.urls();
    turned.rotate_left(1);
    let replica = proxy_before(&turned, rig.plane.ca_pem(), |_| {}).await;
    let mut client = rig.client(Protocol::Http2).await;
    let mut other = Client::connect(
        replica.address,
        replica.ca_pem.as_deref().unwrap(),
        rig.plane.token(),
        Protocol::Http1,
    )
    .await;
    for namespace in (0..20).map(|n| format!("team-{n}")) {
        rig.plane.create_namespace(&namespace).unwrap();
        for n in 0..3 {
            assert_eq!(
                client.create_in(&namespace, &format!("a-{n}")).await.status,
                StatusCode::CREATED
            );
            assert_eq!(
                other.create_in(&namespace, &format!("b-{n}")).await.status,
                StatusCode::CREATED
            );
        }
    }
    let mut at: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for create in rig.plane.journal().creates() {
        at.entry(create.path).or_default().insert(create.apiserver);
    }
    assert!(
        at.len() == 20 && at.values().all(|servers| servers.len() == 1),
        "{at:?}"
    );
    assert!(
        at.values().flatten().collect::<BTreeSet<_>>().len() > 1,
        "namespaces are spread: {at:?}"
    );
    let status = rig.proxy.upstream.status();
    for (index, server) in status.iter().enumerate() {
        let own = at
            .iter()
            .filter(|(_, servers)| servers.contains(&index))
            .map(|(path, _)| path.split('/').nth(4).unwrap());
        assert_eq!(server.namespaces, own.collect::<Vec<_>>());
        assert_eq!(
            format!("https://{}", server.address),
            rig.plane.urls()[index]
        );
    }
    replica.stop().await;
    rig.stop().await;
}

#[tokio::test]
async fn calls_watches_and_unpinned_creates_are_spread_over_the_apiservers() {
    let rig = Rig::listed(quick(), |config| config.upstream.pin = Pin::None).await;
    let mut clients = Vec::new();
    let mut watches = Vec::new();
    for n in 0..3 * SERVERS {
        let mut client = rig.client(Protocol::Http1).await;
        for call in 0..10 {
            client.get("/livez").await;
            assert_eq!(
                client.create(&format!("pod-{n}-{call}")).await.status,
                StatusCode::CREATED
            );
        }
        watches.push(Streamed::open(&mut client, &watch_path(), "application/json").await);
        clients.push(client);
    }
    let attempts = rig.plane.journal().attempts();
    let per_server = |is: &dyn Fn(&Attempt) -> bool| -> [usize; SERVERS] {
        std::array::from_fn(|index| {
            count(&attempts, |attempt| {
                attempt.apiserver == index && is(attempt)
            })
        })
    };
    assert!(
        per_server(&|attempt| attempt.path == "/livez")
            .iter()
            .all(|calls| *calls > 0)
    );
    assert!(
        per_server(&Attempt::is_create)
            .iter()
            .all(|creates| *creates > 0)
    );
    assert_eq!(
        per_server(&|attempt| attempt.query.is_some()),
        [3; SERVERS],
        "watches stay where they are, so they are balanced"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pinned_creates_meet_no_conflict() {
    for listed in [true, false] {
        let settings = Settings {
            seed: 1,
            ..Settings::default()
        };
        let rig = if listed {
            Rig::listed(settings, |_| {}).await
        } else {
            Rig::with(settings, |_| {}).await
        };
        storm(&rig, 20, 200, || false).await;
        let creates = rig.plane.journal().creates();
        assert_eq!(
            (conflicts(&creates), creates.len()),
            (0, 200),
            "by their own addresses: {listed}"
        );
        // Behind one address only a connection keeps to one apiserver; where each has its own,
        // several carry the creates at once.
        let connections: BTreeSet<_> = creates.iter().map(|create| create.connection).collect();
        assert_eq!(
            connections.len() == 1,
            !listed,
            "by their own addresses: {listed}"
        );
        let apiservers: BTreeSet<_> = creates.iter().map(|create| create.apiserver).collect();
        assert_eq!(apiservers.len(), 1, "by their own addresses: {listed}");
        rig.stop().await;
    }
}

#[tokio::test]
async fn requests_go_on_to_the_next_server_where_one_cannot_be_reached() {
    for down in BOTH {
        // It must be no replay that helps.
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
        // The lanes of creates and streams are not connected yet: nothing can be lost on the way.
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
        // Tried although it has not been probed again: nothing else is left.
        assert_eq!(client.create("later").await.status, StatusCode::CREATED);
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_shutting_down_answer_sends_the_create_to_another_server_at_once() {
    for protocol in BOTH {
        // The answer asks for five seconds, which no other server needs; nor is the budget for it.
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

#[tokio::test]
async fn a_server_that_lets_nobody_read_its_readiness_is_alive() {
    for code in [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::NOT_FOUND,
    ] {
        let plane = crate::support::plane(quick()).await;
        for index in 0..SERVERS {
            plane
                .faults(index)
                .unwrap()
                .answer_readyz(Some(Canned::new(code, "text/plain", "")));
        }
        let proxy = proxy_before(&plane.urls(), plane.ca_pem(), |_| {}).await;
        eventually("all are up", || servers_up(&proxy) == SERVERS).await;
        Rig { plane, proxy }.stop().await;
    }
}

/// The connections of a server that dies break one after the other, over milliseconds.
#[tokio::test]
async fn after_a_connection_broke_creates_use_no_other_that_was_open() {
    for (up, fault) in [
        (Protocol::Http2, Fault::Cut),
        (Protocol::Http1, Fault::Cut),
        (Protocol::Http1, Fault::Truncate),
    ] {
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
        // Creates that wait beside each other, so that there are several connections.
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

        faults.next_create(fault.clone());
        let mut client = rig.client(Protocol::Http1).await;
        assert_eq!(
            client.create("lost").await.status,
            StatusCode::GATEWAY_TIMEOUT,
            "{fault:?}"
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
            "{up:?} {fault:?}: {after:?}"
        );
        rig.stop().await;
    }
}

/// Until it has read RBAC's roles, an apiserver that starts forbids everything to everybody,
/// `/readyz` too.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_returns_to_its_server_in_a_storm_without_a_conflict() {
    // News that are slow enough for a burst: at once it would be up to all creates in flight.
    let settings = Settings {
        seed: 1,
        watch_latency: Duration::from_millis(35),
        ..Settings::default()
    };
    // As it says of itself, the pause outlasts the news, of which the slowest take eleven times the
    // mean.
    let rig = Rig::listed(settings, |config| {
        config.replay.base_delay = Duration::from_millis(400)
    })
    .await;
    let own = {
        rig.client(Protocol::Http1).await.create("first").await;
        rig.plane.journal().creates()[0].apiserver
    };
    let over = AtomicBool::new(false);
    let storming = storm(&rig, 20, usize::MAX, || over.load(Ordering::Relaxed));
    let watching = async {
        let creates_at = |is_own: bool| {
            count(&rig.plane.journal().creates(), |create| {
                (create.apiserver == own) == is_own
            })
        };
        eventually("creates are at the namespace's own server", || {
            creates_at(true) > 50
        })
        .await;
        rig.plane
            .faults(own)
            .unwrap()
            .answer_readyz(Some(Canned::shutting_down()));
        eventually("they have moved", || creates_at(false) > 50).await;
        let (moved, there) = (rig.plane.journal().len(), creates_at(true));
        rig.plane.faults(own).unwrap().answer_readyz(None);
        eventually("they have returned", || creates_at(true) > there + 50).await;
        over.store(true, Ordering::Relaxed);
        moved
    };
    let (acknowledged, moved) = tokio::join!(storming, watching);
    let attempts = rig.plane.journal().attempts();
    let returned: Vec<_> = attempts[moved..]
        .iter()
        .filter(|attempt| attempt.apiserver == own)
        .cloned()
        .collect();
    assert_eq!(conflicts(&returned), 0, "of {} creates", returned.len());
    assert_eq!(
        acknowledged + 1,
        rig.plane.pods(NAMESPACE).len(),
        "none is lost"
    );
    assert_eq!(
        attempts
            .iter()
            .filter(|attempt| attempt.stored.is_some())
            .count(),
        acknowledged + 1,
        "none is stored twice"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apiserver_killed_and_restarted_in_a_storm_loses_nothing_and_moves_only_its_own_namespaces()
 {
    let rig = Rig::listed(
        Settings {
            seed: 1,
            ..Settings::default()
        },
        |_| {},
    )
    .await;
    let replica = proxy_before(&rig.plane.urls(), rig.plane.ca_pem(), |_| {}).await;
    let proxies = [&rig.proxy, &replica];
    eventually("all are up", || {
        proxies.iter().all(|proxy| servers_up(proxy) == SERVERS)
    })
    .await;
    let namespaces: Vec<_> = (0..6).map(|n| format!("team-{n}")).collect();
    let over = Arc::new(AtomicBool::new(false));
    let mut workers = JoinSet::new();
    for namespace in &namespaces {
        rig.plane.create_namespace(namespace).unwrap();
        rig.plane
            .create_quota(namespace, "compute-quota", &[("pods", "100k")])
            .unwrap();
        for (n, proxy) in proxies.iter().cycle().take(6).enumerate() {
            let mut client = Client::connect(
                proxy.address,
                proxy.ca_pem.as_deref().unwrap(),
                rig.plane.token(),
                Protocol::Http1,
            )
            .await;
            let (namespace, over) = (namespace.clone(), Arc::clone(&over));
            workers.spawn(async move {
                let mut answers = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let name = format!("pod-{n}-{}", answers.len());
                    let status = client.create_in(&namespace, &name).await.status;
                    answers.push((format!("{namespace}/{name}"), status));
                }
                answers
            });
        }
    }
    let arrived = |path: &str, server: usize| {
        count(&rig.plane.journal().creates(), |create| {
            create.path.contains(path) && create.apiserver == server
        })
    };
    eventually("the storm is on", || {
        rig.plane.journal().creates().len() > 100
    })
    .await;
    let killed = rig.plane.journal().creates()[0].apiserver;
    rig.plane.faults(killed).unwrap().set_down(true);
    eventually("it has been seen", || {
        proxies.iter().all(|proxy| servers_up(proxy) == SERVERS - 1)
    })
    .await;
    let before = rig.plane.journal().creates().len();
    eventually("the storm goes on", || {
        rig.plane.journal().creates().len() > before + 100
    })
    .await;
    let (at_killed, before) = (arrived("/", killed), rig.plane.journal().creates().len());
    rig.plane.faults(killed).unwrap().set_down(false);
    eventually("it is used again", || {
        arrived("/", killed) > at_killed && rig.plane.journal().creates().len() > before + 100
    })
    .await;
    over.store(true, Ordering::Relaxed);
    let answers: Vec<_> = soon(workers.join_all())
        .await
        .into_iter()
        .flatten()
        .collect();

    // Of creates under way at a server that is killed nobody knows what became: those answers are
    // 504, and are no replay's business.
    let unknown = answers
        .iter()
        .filter(|(_, status)| *status == StatusCode::GATEWAY_TIMEOUT)
        .count();
    assert!(
        answers
            .iter()
            .all(|(_, status)| [StatusCode::CREATED, StatusCode::GATEWAY_TIMEOUT].contains(status)),
        "{answers:?}"
    );
    assert!(unknown <= 36, "no more than were in flight: {unknown}");
    let mut stored = BTreeSet::new();
    for pod in rig
        .plane
        .journal()
        .creates()
        .into_iter()
        .filter_map(|create| create.stored)
    {
        assert!(
            stored.insert(format!("{}/{}", pod.namespace, pod.name)),
            "stored twice: {pod:?}"
        );
    }
    for (name, status) in &answers {
        assert!(
            *status != StatusCode::CREATED || stored.contains(name),
            "lost: {name}"
        );
    }
    for namespace in &namespaces {
        let path = format!("/{namespace}/");
        let at: Vec<_> = (0..SERVERS)
            .filter(|server| arrived(&path, *server) > 0)
            .collect();
        assert!(
            at.len() == 1 || (at.len() == 2 && at.contains(&killed)),
            "{namespace} was at {at:?}"
        );
    }
    replica.stop().await;
    rig.stop().await;
}

/// Creates pods in [`NAMESPACE`], so many at a time, until there are `pods` or it is `over`; how
/// many were acknowledged, which all must be.
async fn storm(rig: &Rig, in_flight: usize, pods: usize, over: impl Fn() -> bool) -> usize {
    let (next, stop) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        let (mut client, next, stop) = (
            rig.client(Protocol::Http1).await,
            Arc::clone(&next),
            Arc::clone(&stop),
        );
        workers.spawn(async move {
            let mut acknowledged = 0;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= pods || stop.load(Ordering::Relaxed) {
                    return acknowledged;
                }
                let answer = client.create(&format!("pod-{n}")).await;
                assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
                acknowledged += 1;
            }
        });
    }
    if pods == usize::MAX {
        eventually("the storm is over", over).await;
        stop.store(true, Ordering::Relaxed);
    }
    soon(workers.join_all()).await.into_iter().sum()
}

fn count(attempts: &[Attempt], is: impl Fn(&Attempt) -> bool) -> usize {
    attempts.iter().filter(|attempt| is(attempt)).count()
}

fn conflicts(attempts: &[Attempt]) -> usize {
    count(attempts, |attempt| attempt.quota == QuotaOutcome::Conflict)
}
