//! One server fails or returns during a storm of creates.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use model_control_plane::{Canned, Settings};
use tokio::task::JoinSet;

use super::{SERVERS, conflicts, count, storm};
use crate::support::{
    Client, NAMESPACE, Protocol, Rig, eventually, proxy_in_front_of, servers_up, soon,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_returns_to_its_server_in_a_storm_without_a_conflict() {
    // A watch latency that is long enough for a burst of conflicts; at most all creates in flight
    // conflict at once.
    let settings = Settings {
        seed: 1,
        watch_latency: Duration::from_millis(35),
        ..Settings::default()
    };
    // The pause is longer than the watch latency, whose slowest events take eleven times the mean.
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
    let replica = proxy_in_front_of(&rig.plane.urls(), rig.plane.ca_pem(), |_| {}).await;
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

    // It is unknown whether a killed server processed the creates in flight. They are answered with
    // 504 and not replayed.
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
