//! The choice of a server for each request while all servers are healthy.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use kube_retry_proxy::config::Pin;
use model_control_plane::Attempt;

use super::{SERVERS, conflicts, count, quick, storm, storming};
use crate::support::streaming::{Streamed, watch_path};
use crate::support::{Client, Protocol, Rig, proxy_in_front_of};

#[tokio::test]
async fn creates_of_a_namespace_keep_to_one_apiserver_which_all_replicas_choose() {
    let rig = Rig::listed(quick(), |_| {}).await;
    let mut turned = rig.plane.urls();
    turned.rotate_left(1);
    let replica = proxy_in_front_of(&turned, rig.plane.ca_pem(), |_| {}).await;
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
async fn pinned_creates_meet_no_conflict_behind_one_address() {
    let rig = Rig::with(storming(), |_| {}).await;
    let creates = creates_without_conflict(&rig).await;
    // Only a connection stays with one apiserver here.
    let connections: BTreeSet<_> = creates.iter().map(|create| create.connection).collect();
    assert_eq!(connections.len(), 1);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pinned_creates_meet_no_conflict_where_each_server_has_its_address() {
    let rig = Rig::listed(storming(), |_| {}).await;
    let creates = creates_without_conflict(&rig).await;
    let connections: BTreeSet<_> = creates.iter().map(|create| create.connection).collect();
    assert!(connections.len() > 1, "several carry the creates at once");
    rig.stop().await;
}

async fn creates_without_conflict(rig: &Rig) -> Vec<Attempt> {
    storm(rig, 20, 200, || false).await;
    let creates = rig.plane.journal().creates();
    assert_eq!((conflicts(&creates), creates.len()), (0, 200));
    let apiservers: BTreeSet<_> = creates.iter().map(|create| create.apiserver).collect();
    assert_eq!(apiservers.len(), 1);
    creates
}
