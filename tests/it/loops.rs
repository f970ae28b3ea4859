//! An upstream that leads back to the proxy: the returning request gets 508, for every route and
//! every length of the loop.

use std::net::SocketAddr;
use std::sync::OnceLock;

use http::{Method, StatusCode};
use kube_retry_proxy::app::App;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use crate::cases::every;
use crate::malformed::own_status;
use crate::support::raw::Raw;
use crate::support::{
    BOTH, Client, NAMESPACE, Protocol, Rig, admin, pod, proxy_to, sample, soon, speaking,
    tls_stream,
};

/// A reserved address that is known before its proxy starts.
struct Relay {
    address: SocketAddr,
    to: &'static OnceLock<SocketAddr>,
}

impl Relay {
    async fn bind() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let to: &OnceLock<SocketAddr> = Box::leak(Box::default());
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                // Connections that arrive earlier are closed.
                let Some(to) = to.get() else { continue };
                tokio::spawn(async move {
                    let mut to = TcpStream::connect(to).await?;
                    tokio::io::copy_bidirectional(&mut from, &mut to).await
                });
            }
        });
        Self { address, to }
    }
}

/// One certificate for all proxies of a loop.
struct Pair {
    files: TempDir,
    certificate: String,
}

impl Pair {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap()
            .pem();
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("tls.crt"), &certificate).unwrap();
        std::fs::write(files.path().join("tls.key"), key.serialize_pem()).unwrap();
        Self { files, certificate }
    }

    async fn proxy_to(&self, address: SocketAddr) -> App {
        proxy_to(&format!("https://{address}"), &self.certificate, |config| {
            config.serving.tls_cert_file = Some(self.files.path().join("tls.crt"));
            config.serving.tls_private_key_file = Some(self.files.path().join("tls.key"));
        })
        .await
    }

    /// Sends a request of each route over both protocols, and expects that each one returns.
    async fn assert_every_route_is_a_loop(&self, entry: &App, asked: &str) {
        let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let rows = BOTH.iter().flat_map(|protocol| {
            [
                (*protocol, Method::POST, pods.clone()),
                (*protocol, Method::GET, pods.clone()),
                (*protocol, Method::GET, format!("{pods}?watch=true")),
            ]
        });
        every(rows, async |(protocol, method, path)| {
            let mut client = Client::connect(entry.address, &self.certificate, "t", protocol).await;
            let answer = client.ask(client.request(method, &path, pod("a"))).await;
            assert_eq!(answer.status, StatusCode::LOOP_DETECTED, "{asked}");
            assert!(
                own_status(&answer.body, 508, "LoopDetected").contains("upstream"),
                "{answer:?}"
            );
        })
        .await;
        let mut raw = Raw::new(tls_stream(entry.address, &self.certificate, Protocol::Http1).await);
        raw.write(format!("GET {pods}/a/exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")).await;
        own_status(&raw.answer().await.1, 508, "LoopDetected");
        // Each request passed the loop once: it is counted once as a client request and once as a
        // returning one.
        for (route, requests) in [("create", 2.0), ("stream", 2.0), ("upgrade", 1.0)] {
            let answered = sample(
                entry,
                &format!("kube_retry_proxy_requests_total{{code=\"508\",route=\"{route}\"}}"),
            );
            assert_eq!(answered, 2.0 * requests, "{asked}: {route}");
        }
        let ready = admin::get_until(entry.admin_address, "/readyz?verbose", |answer| {
            answer.text().contains("leads back to this proxy")
        })
        .await;
        assert_eq!(
            ready.status,
            StatusCode::INTERNAL_SERVER_ERROR,
            "{}",
            ready.text()
        );
    }
}

#[tokio::test]
async fn a_proxy_before_itself_says_so() {
    let (pair, relay) = (Pair::new(), Relay::bind().await);
    let proxy = pair.proxy_to(relay.address).await;
    relay.to.set(proxy.address).unwrap();
    pair.assert_every_route_is_a_loop(&proxy, "itself").await;
    soon(proxy.stop()).await;
}

#[tokio::test]
async fn two_proxies_before_each_other_say_so() {
    let (pair, relay) = (Pair::new(), Relay::bind().await);
    let first = pair.proxy_to(relay.address).await;
    let second = pair.proxy_to(first.address).await;
    relay.to.set(second.address).unwrap();
    pair.assert_every_route_is_a_loop(&first, "two").await;
    soon(async { tokio::join!(first.stop(), second.stop()) }).await;
}

cases!(two_proxies_in_a_row_are_no_loop, protocols, protocols);
async fn two_proxies_in_a_row_are_no_loop(up: Protocol, down: Protocol) {
    let rig = Rig::with(speaking(up), |_| {}).await;
    let front = proxy_to(
        &format!("https://{}", rig.proxy.address),
        rig.proxy.ca_pem.as_deref().unwrap(),
        |_| {},
    )
    .await;
    let mut client = Client::connect(
        front.address,
        front.ca_pem.as_deref().unwrap(),
        rig.plane.token(),
        down,
    )
    .await;
    let mut request = client.request(Method::GET, "/echo", "");
    request
        .headers_mut()
        .insert("via", "1.0 fred".parse().unwrap());
    let echo = client.ask(request).await.json();
    let via: Vec<_> = echo["headers"]["via"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    let [fred, first, second] = via[..] else {
        panic!("{via:?}")
    };
    let version = if down == Protocol::Http1 {
        "1.1"
    } else {
        "2.0"
    };
    assert_eq!(
        (fred, first.split_once(" kube-retry-proxy-").unwrap().0),
        ("1.0 fred", version)
    );
    assert!(
        second.starts_with("2.0 kube-retry-proxy-") && first[4..] != second[4..],
        "{via:?}"
    );
    assert_eq!(
        client
            .create(&format!("{down:?}").to_lowercase())
            .await
            .status,
        StatusCode::CREATED
    );
    soon(front.stop()).await;
    rig.stop().await;
}
