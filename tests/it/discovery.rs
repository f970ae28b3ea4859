//! The proxy finds the apiservers in the EndpointSlice of the Service `kubernetes` and follows its
//! changes.

use std::collections::BTreeSet;

use http::StatusCode;
use kube_retry_proxy::config::{Config, Discover};
use model_control_plane::{Canned, ControlPlane, Fault, Settings};
use tempfile::TempDir;

use crate::support::executable::{Place, Served, command};
use crate::support::{Client, Protocol, Rig, admin, eventually, plane, proxy_to, sample};

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// Three apiservers, a proxy that knows only their load balancer, and the token for the discovery.
async fn rig(edit: impl FnOnce(&ControlPlane)) -> (Rig, TempDir) {
    let plane = plane(Settings {
        own_addresses: true,
        ..Settings::quick()
    })
    .await;
    edit(&plane);
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, format!("{}\n", plane.token())).unwrap();
    let discover = |config: &mut Config| {
        config.upstream.url = config.upstream.servers.pop();
        config.upstream.discover = Some(Discover::Kubernetes);
        config.upstream.discover_token_file = token;
    };
    let proxy = proxy_to(&plane.balanced_url(), plane.ca_pem(), discover).await;
    (Rig { plane, proxy }, directory)
}

/// The servers that the proxy uses, by their index among the apiservers. The load balancer has no
/// index.
fn used(rig: &Rig) -> BTreeSet<usize> {
    let known = rig.plane.addresses();
    let status = rig.proxy.upstream.status();
    status
        .iter()
        .filter(|server| server.healthy)
        .filter_map(|server| {
            known
                .iter()
                .position(|known| known.to_string() == server.address)
        })
        .collect()
}

async fn finds(rig: &Rig, expected: &[usize]) {
    eventually(&format!("{expected:?} are used"), || {
        used(rig) == BTreeSet::from_iter(expected.iter().copied())
    })
    .await;
}

/// The number of requests for the slice, including watches.
fn asked(rig: &Rig, watch: bool) -> usize {
    let is_watch = |query: &Option<String>| {
        query
            .as_ref()
            .is_some_and(|query| query.contains("watch=true"))
    };
    let attempts = rig.plane.journal().attempts();
    attempts
        .iter()
        .filter(|attempt| attempt.path == SLICES && is_watch(&attempt.query) == watch)
        .count()
}

#[tokio::test]
async fn the_apiservers_are_found_and_followed() {
    let (rig, _directory) = rig(|_| {}).await;
    finds(&rig, &[0, 1, 2]).await;
    let mut client = rig.client(Protocol::Http1).await;
    let mut at = BTreeSet::new();
    for n in 0..5 {
        assert_eq!(
            client.create(&format!("pod-{n}")).await.status,
            StatusCode::CREATED
        );
        at.insert(rig.plane.journal().creates()[n].apiserver);
    }
    assert_eq!(at.len(), 1);
    let own = at.pop_first().unwrap();
    let others: Vec<_> = (0..3).filter(|index| *index != own).collect();
    rig.plane.set_listed_apiservers(&others);
    finds(&rig, &others).await;
    assert_eq!(client.create("moved").await.status, StatusCode::CREATED);
    assert_ne!(rig.plane.journal().creates()[5].apiserver, own);
    assert_eq!(
        sample(
            &rig.proxy,
            "kube_retry_proxy_upstream_pins_moved_total{why=\"failed\"}"
        ),
        1.0,
        "it did not wait for one that is gone"
    );
    assert!(!rig.proxy.metrics.render().contains(&format!(
        "upstream_up{{server=\"{}\"}}",
        rig.plane.addresses()[own]
    )));

    rig.plane.set_listed_apiservers(&[]);
    rig.plane.set_listed_apiservers(&[0, 1, 2]);
    finds(&rig, &[0, 1, 2]).await;
    assert_eq!(
        (asked(&rig, false), asked(&rig, true)),
        (1, 1),
        "all of it was told by one watch"
    );
    rig.stop().await;
}

#[tokio::test]
async fn an_empty_list_keeps_the_last_good_one() {
    let (rig, _directory) = rig(|plane| plane.set_listed_apiservers(&[])).await;
    eventually("it is watched", || asked(&rig, true) == 1).await;
    let mut client = rig.client(Protocol::Http1).await;
    assert_eq!(
        client.create("through-the-service").await.status,
        StatusCode::CREATED
    );
    rig.plane.set_listed_apiservers(&[1]);
    finds(&rig, &[1]).await;
    rig.plane.set_listed_apiservers(&[]);
    rig.plane.compact_endpoints();
    eventually("it was listed again", || asked(&rig, false) == 2).await;
    finds(&rig, &[1]).await;
    rig.stop().await;
}

#[tokio::test]
async fn the_list_survives_what_happens_to_its_watch() {
    let (rig, _directory) = rig(|_| {}).await;
    finds(&rig, &[0, 1, 2]).await;
    eventually("it is watched", || asked(&rig, true) == 1).await;
    (0..3).for_each(|index| rig.plane.faults(index).unwrap().cut_connections());
    eventually("it is watched again", || asked(&rig, true) == 2).await;
    rig.plane.set_listed_apiservers(&[0, 2]);
    finds(&rig, &[0, 2]).await;
    rig.plane.compact_endpoints();
    eventually("it is watched once more", || asked(&rig, true) == 3).await;
    rig.plane.set_listed_apiservers(&[0]);
    finds(&rig, &[0]).await;
    rig.stop().await;
}

#[tokio::test]
async fn what_may_not_be_read_leaves_the_services_address_in_use() {
    let forbidden = Canned::new(StatusCode::FORBIDDEN, "text/plain", "no");
    let (rig, _directory) = rig(|plane| {
        for index in 0..3 {
            plane
                .faults(index)
                .unwrap()
                .next_request(Fault::Answer(forbidden.clone()));
        }
    })
    .await;
    eventually("it was asked", || asked(&rig, false) >= 1).await;
    eventually("the balancer is up", || {
        rig.proxy
            .upstream
            .status()
            .iter()
            .any(|server| server.healthy)
    })
    .await;
    finds(&rig, &[0, 1, 2]).await;
    assert!(asked(&rig, false) >= 2, "it was asked again");
    rig.stop().await;
}

#[tokio::test]
async fn the_executable_discovers_with_a_token_that_is_renewed_and_never_shown() {
    const TOKEN: &str = "MARKER-own-token";
    let place = Place::with(Settings {
        own_addresses: true,
        tokens: vec![TOKEN.into()],
        ..Settings::quick()
    })
    .await;
    let (ca, token, directory) = (
        place.path("upstream-ca.crt"),
        place.write("token", "not-yet"),
        place.path(""),
    );
    let config = place.write(
        "config.yaml",
        &format!(
            "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\nupstream: {{url: '{}', caFile: {ca}, discover: Kubernetes, \
             discoverTokenFile: {token}}}\nserving: {{bindAddress: 127.0.0.1, securePort: 0, selfSigned: {{directory: {directory}}}}}\n\
             admin: {{bindAddress: 127.0.0.1:0}}\n",
            place.plane.balanced_url()
        ),
    );
    let served = Served::start(command(&[
        "serve",
        "--config",
        &config,
        "--log-level",
        "trace",
    ]))
    .await;
    admin::get_until(served.admin, "/readyz", |answer| answer.status.is_success()).await;
    place.write("token", TOKEN);
    let servers: Vec<_> = place
        .plane
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    admin::get_until(served.admin, "/readyz?verbose", |answer| {
        servers
            .iter()
            .all(|server| answer.text().contains(&format!("{server} is up")))
    })
    .await;
    let mut client: Client = place.client(&served).await;
    assert_eq!(client.create("a").await.status, StatusCode::CREATED);
    served.process.signal("TERM");
    let log = served.process.ended().await.stderr;
    assert!(
        log.contains("Found the apiservers") && !log.contains("MARKER"),
        "{log}"
    );
}
