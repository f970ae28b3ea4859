//! Limits on client connections: idle connections make room for new ones, each address has its
//! share, idle connections time out, and connections with a request in flight are not affected.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::StatusCode;
use kube_retry_proxy::app::App;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::support::frames::Frames;
use crate::support::raw::Raw;
use crate::support::streaming::{Streamed, watch_path};
use crate::support::{
    BOTH, Client, Protocol, Rig, eventually, sample, soon, speaking, tls_over, tls_stream,
    try_tls_stream,
};

const JSON: &str = "application/json";

/// One apiserver, and a proxy with this limit of connections in total and for one address.
async fn rig(max: u32, per_address: u32) -> Rig {
    Rig::with(speaking(Protocol::Http2), |config| {
        config.serving.max_connections = max.try_into().unwrap();
        config.serving.max_connections_per_address = Some(per_address.try_into().unwrap());
    })
    .await
}

cases!(
    a_new_client_is_served_however_many_do_nothing_and_no_watch_ends,
    protocols
);
async fn a_new_client_is_served_however_many_do_nothing_and_no_watch_ends(protocol: Protocol) {
    let rig = rig(12, 12).await;
    let mut writer = rig.direct(Protocol::Http2).await;
    let mut watch = Streamed::open(&mut rig.client(protocol).await, &watch_path(), JSON).await;
    let mut silent = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(rig.proxy.address).await.unwrap());
        let mut half = Raw::new(tls_stream(rig.proxy.address, ca(&rig), Protocol::Http1).await);
        half.write("GET /api HTTP/1.1\r\nHost: x\r\n").await;
        idle.push(half);
    }
    let mut asked = Vec::new();
    for protocol in BOTH {
        let mut client = rig.client(protocol).await;
        assert_eq!(client.get("/livez").await.status, StatusCode::OK);
        asked.push(client);
    }
    for number in 0..40 {
        let mut client = rig.client(BOTH[number % 2]).await;
        let name = format!("new-{number}");
        assert_eq!(client.create(&name).await.status, StatusCode::CREATED);
        assert_eq!(watch.event().await.1, name);
        asked.push(client);
    }
    writer.create("last").await;
    assert_eq!(watch.event().await.1, "last");
    assert!(
        sample(
            &rig.proxy,
            "kube_retry_proxy_connections_closed_total{port=\"serving\",reason=\"room\"}"
        ) >= 38.0
    );
    eventually("the old ones are closed", || {
        asked.iter().take(30).all(Client::is_closed)
    })
    .await;
    eventually("no more than there may be", || open(&rig.proxy) <= 12.0).await;
    rig.stop().await;
}

#[tokio::test]
async fn an_address_that_has_its_share_is_refused_and_others_are_not() {
    let rig = rig(20, 4).await;
    let mut watches = Vec::new();
    for protocol in [
        Protocol::Http1,
        Protocol::Http2,
        Protocol::Http1,
        Protocol::Http2,
    ] {
        watches.push(Streamed::open(&mut rig.client(protocol).await, &watch_path(), JSON).await);
    }
    for _ in 0..20 {
        let mut refused = TcpStream::connect(rig.proxy.address).await.unwrap();
        assert_eq!(
            soon(refused.read(&mut [0; 1])).await.unwrap_or(0),
            0,
            "closed before anything is said"
        );
    }
    assert_eq!(
        sample(
            &rig.proxy,
            "kube_retry_proxy_connections_closed_total{port=\"serving\",reason=\"share\"}"
        ),
        20.0
    );
    let mut neighbour = from(&rig, Ipv4Addr::new(127, 0, 0, 2).into()).await;
    assert_eq!(neighbour.create("theirs").await.status, StatusCode::CREATED);
    for watch in &mut watches {
        assert_eq!(watch.event().await.1, "theirs");
    }
    drop(watches.pop());
    soon(async {
        while try_tls_stream(rig.proxy.address, ca(&rig), Protocol::Http1)
            .await
            .is_err()
        {}
    })
    .await;
    rig.stop().await;
}

#[tokio::test]
async fn a_connection_without_requests_is_ended_and_one_with_a_watch_is_not() {
    let rig = Rig::with(speaking(Protocol::Http2), |config| {
        config.serving.head_timeout = Duration::from_millis(300).try_into().unwrap()
    })
    .await;
    let mut writer = rig.direct(Protocol::Http2).await;
    let mut watches = Vec::new();
    let mut clients = Vec::new();
    for protocol in BOTH {
        watches.push(Streamed::open(&mut rig.client(protocol).await, &watch_path(), JSON).await);
        let mut client = rig.client(protocol).await;
        assert_eq!(client.get("/livez").await.status, StatusCode::OK);
        clients.push(client);
        clients.push(rig.client(protocol).await);
    }
    eventually("those without requests have ended", || {
        clients.iter().all(Client::is_closed)
    })
    .await;
    eventually("only the watches are left", || open(&rig.proxy) == 2.0).await;
    assert!(
        sample(
            &rig.proxy,
            "kube_retry_proxy_connections_closed_total{port=\"serving\",reason=\"idle\"}"
        ) >= 4.0
    );
    writer.create("later").await;
    for watch in &mut watches {
        assert_eq!(watch.event().await.1, "later");
    }
    rig.stop().await;
}

#[tokio::test]
async fn an_http2_connection_ends_with_a_farewell_and_not_with_an_error() {
    let rig = Rig::with(speaking(Protocol::Http2), |config| {
        config.serving.head_timeout = Duration::from_millis(100).try_into().unwrap()
    })
    .await;
    let mut client = frames(&rig).await;
    let (_, request) = client.get("/livez");
    client.write(&request).await;
    assert!(client.data_with("ok").await);
    assert!(client.received_goaway().await);
    // The client has not acknowledged the GOAWAY yet, so this request was still allowed.
    assert!(
        client.answered("/livez").await,
        "a request that crosses the GOAWAY is answered"
    );
    while client.settled().await {}
    assert_eq!(client.error, None);
    rig.stop().await;
}

#[tokio::test]
async fn a_tunnel_keeps_its_place() {
    let rig = rig(2, 2).await;
    let mut tunnel = rig.raw().await;
    let token = rig.plane.token();
    let upgrade = "POST /api/v1/namespaces/team/pods/a/exec?command=sh&stdin=true HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
                   Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n";
    tunnel
        .write(format!("{upgrade}Authorization: Bearer {token}\r\n\r\n"))
        .await;
    assert_eq!(
        tunnel.head().await.status(),
        StatusCode::SWITCHING_PROTOCOLS
    );
    for _ in 0..5 {
        assert_eq!(
            rig.client(Protocol::Http1).await.get("/livez").await.status,
            StatusCode::OK
        );
        tunnel.write("ping").await;
        assert_eq!(tunnel.exactly(4).await, b"ping");
    }
    assert!(
        open(&rig.proxy) >= 1.0,
        "it is a connection of a client still"
    );
    drop(tunnel);
    rig.stop().await;
}

cases!(
    a_burst_of_cancelled_requests_ends_no_watch_on_its_connection,
    protocols
);
async fn a_burst_of_cancelled_requests_ends_no_watch_on_its_connection(upstream: Protocol) {
    let rig = Rig::speaking(upstream).await;
    let mut writer = rig.direct(Protocol::Http1).await;
    let mut neighbour = rig.client(Protocol::Http2).await;
    let mut client = frames(&rig).await;
    let (_, watch) = client.get(&watch_path());
    client.write(&watch).await;
    assert!(client.settled().await);
    for round in 0..3 {
        let burst: Vec<u8> = (0..400)
            .flat_map(|_| client.cancelled("/api/v1/namespaces/team/pods"))
            .collect();
        client.write(&burst).await;
        assert!(client.settled().await, "{:?}", client.error);
        let name = format!("after-{round}");
        assert_eq!(writer.create(&name).await.status, StatusCode::CREATED);
        assert!(
            client.data_with(&name).await,
            "the watch goes on: {:?}",
            client.error
        );
        assert_eq!(neighbour.get("/livez").await.status, StatusCode::OK);
    }
    rig.stop().await;
}

/// The number of open client connections.
fn open(proxy: &App) -> f64 {
    sample(proxy, "kube_retry_proxy_downstream_connections")
}

/// A client whose address is this one of loopback.
async fn from(rig: &Rig, ip: IpAddr) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(ip, 0)).unwrap();
    let tcp = socket.connect(rig.proxy.address).await.unwrap();
    Client::over(
        tls_over(tcp, ca(rig), Protocol::Http1).await,
        rig.proxy.address,
        rig.plane.token(),
        Protocol::Http1,
    )
    .await
}

fn ca(rig: &Rig) -> &str {
    rig.proxy.ca_pem.as_deref().unwrap()
}

/// A client that sends HTTP/2 frames directly.
async fn frames(rig: &Rig) -> Frames {
    Frames::connect(rig.proxy.address, ca(rig), rig.plane.token()).await
}
