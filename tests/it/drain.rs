//! The drain: the proxy becomes unready, accepts nothing new, finishes the requests in flight,
//! answers held creates, and closes streams that do not end.

use std::net::SocketAddr;
use std::time::Duration;

use http::header::{CONNECTION, RETRY_AFTER, UPGRADE};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube_retry_proxy::config::Config;
use model_control_plane::{Canned, ControlPlane, Fault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use crate::support::{
    Answer, BOTH, Client, NAMESPACE, Protocol, Rig, admin, assert_relayed, captured, eventually,
    pod, sample, sample_of, servers_up, speaking,
};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3600);

async fn rig(timeout: Duration, edit: impl FnOnce(&mut Config)) -> Rig {
    Rig::with(speaking(Protocol::Http2), |config| {
        config.drain.timeout = timeout;
        config.replay.base_delay = Duration::from_millis(1);
        config.replay.max_delay = Duration::from_millis(1);
        config.replay.max_hold = 2 * LONG;
        edit(config);
    })
    .await
}

/// A proxy that is stopping while its control plane keeps running.
struct Stopping {
    address: SocketAddr,
    plane: ControlPlane,
    stopped: JoinHandle<()>,
}

impl Stopping {
    /// Starts the drain and waits until no connection is accepted any more.
    async fn begin(rig: Rig) -> Self {
        let address = rig.proxy.address;
        let stopped = tokio::spawn(rig.proxy.stop());
        eventually("new connections are refused", || {
            std::net::TcpStream::connect(address).is_err()
        })
        .await;
        Self {
            address,
            plane: rig.plane,
            stopped,
        }
    }

    /// Waits for the end of the drain.
    async fn end(self) {
        tokio::time::timeout(Duration::from_secs(10), self.stopped)
            .await
            .expect("the drain ends")
            .unwrap();
        assert!(std::net::TcpStream::connect(self.address).is_err());
        self.plane.shutdown().await;
    }
}

/// Sends a request that waits in the apiserver until it is released.
async fn under_way(rig: &Rig, protocol: Protocol) -> (JoinHandle<Answer>, Option<Client>) {
    rig.faults().next_request(Fault::Hold);
    let mut client = rig.client(protocol).await;
    let kept = (protocol == Protocol::Http2).then(|| client.share());
    let before = rig.plane.journal().len();
    let answer = tokio::spawn(async move { client.get("/api/v1/namespaces").await });
    eventually("the request is under way", || {
        rig.plane.journal().len() > before
    })
    .await;
    (answer, kept)
}

async fn watch(client: &mut Client) -> Incoming {
    let response = client
        .send(client.request(
            Method::GET,
            &format!("/api/v1/namespaces/{NAMESPACE}/pods?watch=true"),
            "",
        ))
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body()
}

async fn tunnel(client: &mut Client) -> TokioIo<Upgraded> {
    let mut request = client.request(
        Method::POST,
        &format!("/api/v1/namespaces/{NAMESPACE}/pods/a/exec?command=sh"),
        "",
    );
    request
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    request
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    let response = client.send(request).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

async fn assert_echoes(tunnel: &mut TokioIo<Upgraded>, text: &[u8]) {
    tunnel.write_all(text).await.unwrap();
    let mut back = vec![0; text.len()];
    tunnel.read_exact(&mut back).await.unwrap();
    assert_eq!(back, text);
}

cases!(unready_comes_first_while_requests_finish, protocols);
async fn unready_comes_first_while_requests_finish(protocol: Protocol) {
    let rig = rig(LONG, |_| {}).await;
    eventually("the upstream is reachable", || servers_up(&rig.proxy) == 1).await;
    let admin_address = rig.proxy.admin_address;
    assert_eq!(
        admin::get(admin_address, "/readyz").await.status,
        StatusCode::OK
    );
    let (answer, _kept) = under_way(&rig, protocol).await;
    let faults = rig.faults().clone();
    let stopping = Stopping::begin(rig).await;
    let ready = admin::get(admin_address, "/readyz").await;
    assert_eq!(ready.status, StatusCode::INTERNAL_SERVER_ERROR);
    let told = String::from_utf8_lossy(&ready.body).into_owned();
    assert!(
        told.contains("[-]serving failed: draining\n") && told.contains("[+]upstream ok\n"),
        "{told}"
    );
    assert_eq!(
        admin::get(admin_address, "/livez").await.status,
        StatusCode::OK
    );
    faults.release();
    assert_eq!(answer.await.unwrap().status, StatusCode::OK);
    stopping.end().await;
}

#[tokio::test]
async fn http1_is_told_to_close_with_the_answer_under_way() {
    let rig = rig(LONG, |_| {}).await;
    assert_eq!(
        rig.client(Protocol::Http1)
            .await
            .get("/version")
            .await
            .headers
            .get(CONNECTION),
        None
    );
    let (answer, _) = under_way(&rig, Protocol::Http1).await;
    let faults = rig.faults().clone();
    let stopping = Stopping::begin(rig).await;
    faults.release();
    let answer = answer.await.unwrap();
    assert_eq!(
        (answer.status, answer.headers.get(CONNECTION)),
        (StatusCode::OK, Some(&HeaderValue::from_static("close")))
    );
    stopping.end().await;
}

#[tokio::test]
async fn http2_is_told_goaway_while_its_streams_finish() {
    let rig = rig(LONG, |_| {}).await;
    let (answer, client) = under_way(&rig, Protocol::Http2).await;
    let mut client = client.unwrap();
    let faults = rig.faults().clone();
    let stopping = Stopping::begin(rig).await;
    // The connection accepts requests until the GOAWAY arrives.
    let told = async {
        while client
            .try_send(client.request(Method::GET, "/version", ""))
            .await
            .is_ok()
        {}
    };
    tokio::time::timeout(Duration::from_secs(10), told)
        .await
        .expect("the client is told GOAWAY");
    assert!(!answer.is_finished());
    faults.release();
    assert_eq!(answer.await.unwrap().status, StatusCode::OK);
    stopping.end().await;
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_drain_up() {
    let rig = rig(LONG, |_| {}).await;
    let mut clients = Vec::new();
    for protocol in BOTH {
        let mut client = rig.client(protocol).await;
        assert_eq!(client.get("/version").await.status, StatusCode::OK);
        clients.push(client);
        // This connection has not sent anything yet.
        clients.push(rig.client(protocol).await);
    }
    Stopping::begin(rig).await.end().await;
    eventually("the clients see it", || {
        clients.iter().all(Client::is_closed)
    })
    .await;
}

cases!(held_creates_go_on_and_finish_within_the_timeout, protocols);
async fn held_creates_go_on_and_finish_within_the_timeout(protocol: Protocol) {
    let rig = rig(LONG, |config| {
        config.replay.max_attempts = kube_retry_proxy::config::Attempts::MAX;
        config.replay.budget.other.per_second = 1_000_000.try_into().unwrap();
    })
    .await;
    rig.faults().set_down(true);
    let mut client = rig.client(protocol).await;
    let create = tokio::spawn(async move { client.create("a").await });
    eventually("the create is held", || {
        sample(
            &rig.proxy,
            "kube_retry_proxy_replays_total{class=\"connect_failed\"}",
        ) >= 1.0
    })
    .await;
    let faults = rig.faults().clone();
    let stopping = Stopping::begin(rig).await;
    faults.set_down(false);
    assert_eq!(create.await.unwrap().status, StatusCode::CREATED);
    assert_eq!(stopping.plane.pods(NAMESPACE).len(), 1);
    assert_eq!(stopping.plane.journal().creates().len(), 1);
    stopping.end().await;
}

cases!(
    at_the_deadline_a_held_create_gets_its_last_answer_as_it_was,
    protocols,
    [
        json("quota_conflict_409"),
        protobuf("quota_conflict_409_protobuf"),
        cbor("quota_conflict_409_cbor"),
    ]
);
async fn at_the_deadline_a_held_create_gets_its_last_answer_as_it_was(
    protocol: Protocol,
    sample: &str,
) {
    let rig = rig(Duration::ZERO, |_| {}).await;
    let metrics = rig.proxy.metrics.clone();
    let lasting = captured(sample).with(RETRY_AFTER, HeaderValue::from_static("3600"));
    rig.faults().next_create(Fault::Answer(lasting.clone()));
    let mut client = rig.client(protocol).await;
    let create = tokio::spawn(async move { client.create("a").await });
    eventually("the create is held", || {
        sample_of(&metrics, "kube_retry_proxy_held") == 1.0
    })
    .await;
    let stopping = Stopping::begin(rig).await;
    let answer = create.await.unwrap();
    assert_relayed(&without_close(answer), &lasting, sample);
    assert_eq!(stopping.plane.journal().creates().len(), 1);
    stopping.end().await;
    assert_eq!(
        sample_of(
            &metrics,
            "kube_retry_proxy_not_replayed_total{reason=\"draining\"}"
        ),
        1.0
    );
}

/// The proxy itself sends `Connection: close` over HTTP/1.1, as it must while it drains.
fn without_close(mut answer: Answer) -> Answer {
    answer.headers = answer
        .headers
        .iter()
        .filter(|(name, _)| *name != CONNECTION)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    answer
}

cases!(
    watches_and_tunnels_live_on_until_the_client_ends_them,
    protocols
);
async fn watches_and_tunnels_live_on_until_the_client_ends_them(protocol: Protocol) {
    let rig = rig(LONG, |_| {}).await;
    let (mut watching, mut executing) = (
        rig.client(protocol).await,
        rig.client(Protocol::Http1).await,
    );
    let mut events = watch(&mut watching).await;
    let mut tunnel = tunnel(&mut executing).await;
    assert_echoes(&mut tunnel, b"before").await;
    let mut direct = rig.direct(Protocol::Http1).await;
    let stopping = Stopping::begin(rig).await;
    assert_echoes(&mut tunnel, b"while it drains").await;
    assert_eq!(direct.create("seen").await.status, StatusCode::CREATED);
    let event = events.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(String::from_utf8_lossy(&event).contains("\"seen\""));
    assert!(!stopping.stopped.is_finished());
    drop((events, watching, tunnel, executing));
    stopping.end().await;
}

cases!(at_the_deadline_watches_and_tunnels_are_cut, protocols);
async fn at_the_deadline_watches_and_tunnels_are_cut(protocol: Protocol) {
    let rig = rig(Duration::ZERO, |_| {}).await;
    let (mut watching, mut executing) = (
        rig.client(protocol).await,
        rig.client(Protocol::Http1).await,
    );
    let mut events = watch(&mut watching).await;
    let mut tunnel = tunnel(&mut executing).await;
    assert_echoes(&mut tunnel, b"before").await;
    Stopping::begin(rig).await.end().await;
    assert!(
        !matches!(events.frame().await, Some(Ok(_))),
        "the watch is over"
    );
    let mut rest = Vec::new();
    // Both a normal end and an error end the connection.
    let _ = tunnel.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
}

cases!(
    at_the_deadline_an_attempt_under_way_is_cut_and_not_repeated,
    protocols
);
async fn at_the_deadline_an_attempt_under_way_is_cut_and_not_repeated(protocol: Protocol) {
    let rig = rig(Duration::ZERO, |_| {}).await;
    rig.faults().next_create(Fault::Hold);
    let mut client = rig.client(protocol).await;
    let request = client.create_request("a");
    let create = tokio::spawn(async move {
        client
            .try_send(request)
            .await
            .map(|response| response.status())
    });
    eventually("the attempt is under way", || {
        rig.plane
            .journal()
            .creates()
            .first()
            .is_some_and(|create| create.body == pod("a").len())
    })
    .await;
    let faults = rig.faults().clone();
    let stopping = Stopping::begin(rig).await;
    assert!(create.await.unwrap().is_err(), "there is no answer to give");
    faults.release();
    eventually("the apiserver has finished", || {
        stopping.plane.pods(NAMESPACE).len() == 1
    })
    .await;
    assert_eq!(stopping.plane.journal().creates().len(), 1);
    stopping.end().await;
}

cases!(
    an_answer_at_the_last_moment_still_reaches_its_client,
    protocols
);
async fn an_answer_at_the_last_moment_still_reaches_its_client(protocol: Protocol) {
    let rig = rig(Duration::ZERO, |_| {}).await;
    let last = Canned::throttled(3600).with(
        http::header::DATE,
        HeaderValue::from_static("Mon, 23 Nov 2026 04:45:11 GMT"),
    );
    let mut creates = Vec::new();
    for n in 0..20 {
        rig.faults().next_create(Fault::Answer(last.clone()));
        let mut client = rig.client(protocol).await;
        creates.push(tokio::spawn(async move {
            client.create(&format!("pod-{n}")).await
        }));
    }
    eventually("all are held", || {
        sample(&rig.proxy, "kube_retry_proxy_held") == 20.0
    })
    .await;
    let stopping = Stopping::begin(rig).await;
    for create in creates {
        assert_relayed(&without_close(create.await.unwrap()), &last, "one of many");
    }
    stopping.end().await;
}
