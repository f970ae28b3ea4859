//! Upgrades: exec, attach and port-forward become tunnels that pass every byte and the end of each
//! side.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use kube_retry_proxy::app::App;
use model_control_plane::{Canned, Fault};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::support::raw::{Head, Raw, Upstream};
use crate::support::{NAMESPACE, Protocol, Rig, eventually, proxy_to, sample, soon, tls_stream};

/// `kubectl exec` before 1.31, and the Argo controller.
const SPDY: &str = "POST /api/v1/namespaces/team/pods/a/exec?command=sh&stdin=true&stdout=true HTTP/1.1\r\nHost: client.example\r\n\
                    Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\
                    X-Stream-Protocol-Version: v3.channel.k8s.io\r\nUser-Agent: kubectl/v1.30.0\r\n";

/// `kubectl exec` since 1.31.
const WEBSOCKET: &str = "GET /api/v1/namespaces/team/pods/a/exec?command=sh&stdin=true HTTP/1.1\r\nHost: client.example\r\n\
                         Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n";

cases!(
    the_101_is_relayed_with_its_headers_and_bytes_pass_both_ways,
    [spdy(SPDY), websocket(WEBSOCKET)]
);
async fn the_101_is_relayed_with_its_headers_and_bytes_pass_both_ways(request: &str) {
    let rig = Rig::new().await;
    let (expected, _) = opened(rig.raw_direct().await, request, rig.plane.token()).await;
    let (head, mut tunnel) = opened(rig.raw().await, request, rig.plane.token()).await;
    assert_eq!(head.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(sorted(&head), sorted(&expected));
    for word in ["ping", "pong"] {
        tunnel.write(word).await;
        assert_eq!(tunnel.exactly(4).await, word.as_bytes());
    }
    rig.stop().await;
}

cases!(
    a_request_for_an_upgrade_arrives_as_it_was_sent,
    [spdy(SPDY), websocket(WEBSOCKET)]
);
async fn a_request_for_an_upgrade_arrives_as_it_was_sent(request: &str) {
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |_| {}).await;
    let mut raw = raw_to(&proxy).await;
    raw.write(format!("{request}Authorization: Bearer t\r\n\r\n"))
        .await;
    let (mut head, _connection) = upstream.request().await;
    let mut expected = Head::parse(format!("{request}Authorization: Bearer t\r\n\r\n").as_bytes());
    expected
        .headers
        .iter_mut()
        .for_each(|(name, value)| match name.as_str() {
            "host" => *value = upstream.address().to_string(),
            "connection" => "Upgrade".clone_into(value),
            _ => {}
        });
    expected
        .headers
        .push(("x-forwarded-for".into(), "127.0.0.1".into()));
    assert_eq!(head.line, expected.line);
    assert!(
        head.headers
            .pop_if(|(name, value)| name == "via" && value.starts_with("1.1 kube-retry-proxy-"))
            .is_some()
    );
    assert_eq!(head.headers, expected.headers);
    drop(raw);
    proxy.stop().await;
}

#[tokio::test]
async fn megabytes_pass_both_ways_at_once() {
    let rig = Rig::new().await;
    let (_, tunnel) = opened(rig.raw().await, SPDY, rig.plane.token()).await;
    let sent: Vec<u8> = (0..3 << 20).map(|n: u32| (n % 251) as u8).collect();
    let (reading, mut writing) = tokio::io::split(tunnel.stream);
    let mut back = Raw::new(tokio::io::join(reading, tokio::io::sink()));
    let write = async {
        writing.write_all(&sent).await.unwrap();
        writing.flush().await.unwrap();
    };
    let ((), received) = soon(async { tokio::join!(write, back.exactly(sent.len())) }).await;
    assert!(received == sent);
    rig.stop().await;
}

cases!(
    a_client_that_closes_its_side_still_gets_the_rest,
    [spdy(SPDY), websocket(WEBSOCKET)]
);
async fn a_client_that_closes_its_side_still_gets_the_rest(request: &str) {
    let rig = Rig::new().await;
    let (_, mut tunnel) = opened(rig.raw().await, request, rig.plane.token()).await;
    let sent = vec![b'x'; 1 << 20];
    let (reading, mut writing) = tokio::io::split(&mut tunnel.stream);
    let mut back = Raw::new(tokio::io::join(reading, tokio::io::sink()));
    let write = async {
        writing.write_all(&sent).await.unwrap();
        writing.shutdown().await.unwrap();
    };
    let ((), received) = soon(async { tokio::join!(write, back.rest()) }).await;
    assert_eq!(received.len(), sent.len());
    eventually("the tunnel is over", || tunnels(&rig.proxy) == 0.0).await;
    rig.stop().await;
}

#[tokio::test]
async fn an_upstream_that_closes_its_side_still_gets_the_rest() {
    let (proxy, mut client, mut server) = joined("").await;
    server.write("bye").await;
    server.shutdown().await;
    assert_eq!(client.rest().await, b"bye");
    client.write("still here").await;
    assert_eq!(server.exactly(10).await, b"still here");
    assert_eq!(tunnels(&proxy), 1.0);
    client.shutdown().await;
    assert_eq!(server.rest().await, b"");
    eventually("the tunnel is over", || tunnels(&proxy) == 0.0).await;
    proxy.stop().await;
}

#[tokio::test]
async fn bytes_right_behind_the_101_are_not_lost() {
    let (proxy, mut client, server) = joined("early").await;
    assert_eq!(client.exactly(5).await, b"early");
    drop((client, server));
    proxy.stop().await;
}

#[tokio::test]
async fn a_client_that_vanishes_closes_the_upstream() {
    let (proxy, client, mut server) = joined("").await;
    assert_eq!(tunnels(&proxy), 1.0);
    drop(client);
    assert_eq!(server.rest().await, b"");
    drop(server);
    eventually("the tunnel is over", || tunnels(&proxy) == 0.0).await;
    proxy.stop().await;
}

#[tokio::test]
async fn an_upstream_that_vanishes_closes_the_client() {
    let (proxy, mut client, server) = joined("").await;
    drop(server);
    assert_eq!(client.rest().await, b"");
    drop(client);
    eventually("the tunnel is over", || tunnels(&proxy) == 0.0).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_client_that_vanishes_before_the_answer_ends_the_request() {
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |_| {}).await;
    let mut raw = raw_to(&proxy).await;
    raw.write(format!("{SPDY}\r\n")).await;
    let (_, mut server) = upstream.request().await;
    assert_eq!(tunnels(&proxy), 1.0);
    drop(raw);
    assert_eq!(server.rest().await, b"");
    eventually("nothing is left", || tunnels(&proxy) == 0.0).await;
    proxy.stop().await;
}

cases!(
    a_refused_upgrade_is_an_answer_like_any_other,
    [spdy(SPDY), websocket(WEBSOCKET)]
);
async fn a_refused_upgrade_is_an_answer_like_any_other(request: &str) {
    const FORBIDDEN: &[u8] = include_bytes!("../samples/rbac_forbidden_403.http");
    let rig = Rig::new().await;
    let canned = Canned::captured(FORBIDDEN).unwrap();
    let mut raw = rig.raw().await;
    rig.plane
        .faults(0)
        .unwrap()
        .next_request(Fault::Answer(canned.clone()));
    raw.write(format!(
        "{request}Authorization: Bearer {}\r\n\r\n",
        rig.plane.token()
    ))
    .await;
    let (head, body) = raw.answer().await;
    assert_eq!(head.status(), StatusCode::FORBIDDEN);
    assert_eq!(body, canned.body);
    assert_eq!(head.all("upgrade").len(), 0);
    // The connection is still usable.
    raw.write(format!(
        "GET /livez HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        rig.plane.token()
    ))
    .await;
    assert_eq!(raw.answer().await.1, b"ok");
    assert_eq!(tunnels(&rig.proxy), 0.0);
    rig.stop().await;
}

#[tokio::test]
async fn hundreds_of_refused_upgrades_cost_the_apiserver_a_few_handshakes() {
    const MANY: usize = 300;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let upstream = tokio::spawn(async move {
        loop {
            let mut connection = Raw::new(listener.accept().await.unwrap().0);
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut asked = false;
                while let Some(head) = connection.head_if_any().await {
                    let upgrade = !head.all("upgrade").is_empty();
                    counted.fetch_add(usize::from(upgrade && !asked), Ordering::Relaxed);
                    asked |= upgrade;
                    let answer = match head.all("authorization")[..] {
                        ["Bearer honest"] => {
                            "101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nhello"
                        }
                        _ if upgrade => "401 Unauthorized\r\nContent-Length: 2\r\n\r\nno",
                        _ => "200 OK\r\nContent-Length: 2\r\n\r\nok",
                    };
                    connection.write(format!("HTTP/1.1 {answer}")).await;
                }
            });
        }
    });
    let proxy = proxy_to(&url, "", |_| {}).await;
    let mut connected = Vec::new();
    for _ in 0..MANY {
        connected.push(raw_to(&proxy).await);
    }
    let mut strangers = tokio::task::JoinSet::new();
    for (number, mut raw) in connected.into_iter().enumerate() {
        strangers.spawn(async move {
            raw.write(format!("{}\r\n", [SPDY, WEBSOCKET][number % 2]))
                .await;
            let (head, body) = raw.answer().await;
            assert_eq!(
                (head.status(), &body[..]),
                (StatusCode::UNAUTHORIZED, &b"no"[..])
            );
        });
        if number % 100 == 50 {
            let (head, mut tunnel) = opened(raw_to(&proxy).await, SPDY, "honest").await;
            assert_eq!(head.status(), StatusCode::SWITCHING_PROTOCOLS);
            assert_eq!(tunnel.exactly(5).await, b"hello");
        }
    }
    while let Some(done) = strangers.join_next().await {
        done.unwrap();
    }
    let connections = connections.load(Ordering::Relaxed);
    eprintln!("{connections} connections");
    assert!(connections < MANY / 6, "{connections} connections");
    upstream.abort();
    proxy.stop().await;
}

#[tokio::test]
async fn an_upgrade_towards_an_upstream_that_is_down_is_told_so() {
    let upstream = Upstream::bind().await;
    let url = upstream.url();
    drop(upstream);
    let proxy = proxy_to(&url, "", |_| {}).await;
    let mut raw = raw_to(&proxy).await;
    raw.write(format!("{WEBSOCKET}\r\n")).await;
    let (head, body) = raw.answer().await;
    assert_eq!(
        (head.status(), head.all("retry-after")),
        (StatusCode::SERVICE_UNAVAILABLE, vec!["1"])
    );
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&body).unwrap()["reason"],
        "ServiceUnavailable"
    );
    proxy.stop().await;
}

/// Sends an upgrade request and reads the head of the answer.
async fn opened<S: AsyncRead + AsyncWrite + Unpin>(
    mut raw: Raw<S>,
    request: &str,
    token: &str,
) -> (Head, Raw<S>) {
    assert!(request.contains(NAMESPACE));
    raw.write(format!("{request}Authorization: Bearer {token}\r\n\r\n"))
        .await;
    (raw.head().await, raw)
}

/// A tunnel whose upstream the test controls: the proxy, the client's end, the server's end.
/// `early` arrives in one packet with the 101.
async fn joined(
    early: &str,
) -> (
    App,
    Raw<impl AsyncRead + AsyncWrite + Unpin>,
    Raw<impl AsyncRead + AsyncWrite + Unpin>,
) {
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |_| {}).await;
    let mut client = raw_to(&proxy).await;
    client.write(format!("{SPDY}\r\n")).await;
    let (_, mut server) = upstream.request().await;
    server.write(format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n{early}")).await;
    assert_eq!(
        client.head().await.status(),
        StatusCode::SWITCHING_PROTOCOLS
    );
    (proxy, client, server)
}

async fn raw_to(proxy: &App) -> Raw<impl AsyncRead + AsyncWrite + Unpin + use<>> {
    Raw::new(
        tls_stream(
            proxy.address,
            proxy.ca_pem.as_deref().unwrap(),
            Protocol::Http1,
        )
        .await,
    )
}

fn tunnels(proxy: &App) -> f64 {
    sample(proxy, "kube_retry_proxy_streams{kind=\"upgrade\"}")
}

/// The header lines without `Date`, in any order.
fn sorted(head: &Head) -> Vec<(String, String)> {
    let mut lines: Vec<_> = head
        .headers
        .iter()
        .filter(|(name, _)| name != "date")
        .cloned()
        .collect();
    lines.sort();
    lines
}
