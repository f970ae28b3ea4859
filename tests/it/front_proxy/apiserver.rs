//! An apiserver that believes a front proxy. It remembers over which connection each request came:
//! one that showed the certificate of the front proxy, or one that showed none.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{CONNECTION, RETRY_AFTER, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::pki::Ca;
use crate::support::{Protocol, captured};

/// Each create of these is answered by a quota conflict, and is to wait for a second.
pub const CONTENDED: &str = "/api/v1/namespaces/contended/pods";

/// What arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The certificate that the connection showed, if any.
    pub shown: Option<CertificateDer<'static>>,
    /// The number of the connection.
    pub connection: usize,
    pub path: String,
    pub headers: HeaderMap,
}

impl Seen {
    /// The lines of the fields that say who asks, in their order.
    pub fn identity(&self) -> Vec<(String, String)> {
        let text = |value: &http::HeaderValue| String::from_utf8(value.as_bytes().into()).unwrap();
        self.headers
            .iter()
            .filter(|(name, _)| name.as_str().replace('_', "-").starts_with("x-remote-"))
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect()
    }

    pub fn user(&self) -> Option<String> {
        let user = self.headers.get("x-remote-user")?;
        Some(String::from_utf8(user.as_bytes().into()).unwrap())
    }
}

pub struct Apiserver {
    pub address: SocketAddr,
    pub ca_pem: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Apiserver {
    /// Trusts the front proxies of this CA.
    pub async fn start(front_proxies: &Ca, protocol: Protocol) -> Self {
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let made = made.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(front_proxies.der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![made.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        config.alpn_protocols = match protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        let socket = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let seen = Arc::default();
        tokio::spawn(serve(socket, Arc::new(config).into(), Arc::clone(&seen)));
        Self {
            address,
            ca_pem: made.pem(),
            seen,
        }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// What arrived so far, without probes.
    pub fn requests(&self) -> Vec<Seen> {
        let mut all = self.all();
        all.retain(|seen| seen.path != "/readyz");
        all
    }

    pub fn all(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The last request, which must be the answer to `path`.
    pub fn last(&self, path: &str) -> Seen {
        let last = self.requests().pop().unwrap();
        assert_eq!(last.path, path);
        last
    }
}

async fn serve(socket: TcpListener, tls: TlsAcceptor, seen: Arc<Mutex<Vec<Seen>>>) {
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    loop {
        let (tcp, _) = socket.accept().await.unwrap();
        let (tls, seen) = (tls.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(tcp).await else {
                return;
            };
            let shown = stream.get_ref().1.peer_certificates();
            let shown = shown.map(|chain| chain[0].clone().into_owned());
            let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
            let service = service_fn(|request| {
                let (shown, seen) = (shown.clone(), Arc::clone(&seen));
                async move { answer(shown, connection, &seen, request).await }
            });
            let mut http = auto::Builder::new(TokioExecutor::new());
            // As Go's server.
            http.http1().max_headers(5000).max_buf_size(1 << 20);
            http.http2().max_header_list_size(1 << 20);
            let served = http
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
            drop(served);
        });
    }
}

async fn answer(
    shown: Option<CertificateDer<'static>>,
    connection: usize,
    seen: &Mutex<Vec<Seen>>,
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    seen.lock().unwrap().push(Seen {
        shown,
        connection,
        path: request.uri().path().to_owned(),
        headers: request.headers().clone(),
    });
    let mut response = Response::new(Full::from("{}"));
    if let Some(protocol) = request.headers().get(UPGRADE).cloned() {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut tunnel = TokioIo::new(upgraded.await.unwrap());
            tunnel.write_all(b"tunnel").await.unwrap();
            tunnel.shutdown().await.unwrap();
        });
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, "Upgrade".parse().unwrap());
        headers.insert(UPGRADE, protocol);
        return Ok(response.map(|_| Full::default()));
    }
    let posted = request.method() == http::Method::POST;
    while request.body_mut().frame().await.is_some() {}
    if posted && request.uri().path() == CONTENDED {
        let conflict = captured("quota_conflict_409");
        *response.status_mut() = conflict.status;
        *response.headers_mut() = conflict.headers;
        *response.body_mut() = conflict.body.into();
        response.headers_mut().insert(RETRY_AFTER, 1.into());
    } else if posted {
        *response.status_mut() = StatusCode::CREATED;
    }
    Ok(response)
}
