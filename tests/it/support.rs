//! What the integration tests share: a proxy in front of a control plane, and a plain client that
//! neither retries nor pools.

pub mod admin;
pub mod collector;
pub mod executable;
pub mod frames;
pub mod logs;
pub mod peers;
pub mod raw;
pub mod streaming;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube_retry_proxy::app::{self, App};
use kube_retry_proxy::config::{CaSource, Config};
use kube_retry_proxy::metrics::Metrics;
use kube_retry_proxy::status::Encoding;
use kube_retry_proxy::status::protobuf::{Message, encode_object};
use kube_retry_proxy::tls;
use model_control_plane::{Canned, ControlPlane, Fault, Faults, Settings};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The namespace of most tests.
pub const NAMESPACE: &str = "team";

/// A control plane with the namespace [`NAMESPACE`], a quota in it, and a proxy in front of its
/// first apiserver.
pub struct Rig {
    pub plane: ControlPlane,
    pub proxy: App,
}

impl Rig {
    /// One quick apiserver, defaults in the proxy.
    pub async fn new() -> Self {
        Self::with(
            Settings {
                apiservers: 1,
                ..Settings::quick()
            },
            |_| {},
        )
        .await
    }

    /// With other settings. The proxy is in front of the balancer where there are several
    /// apiservers.
    pub async fn with(settings: Settings, edit: impl FnOnce(&mut Config)) -> Self {
        let single = settings.apiservers == 1;
        let plane = plane(settings).await;
        let upstream = if single {
            plane.urls()[0].clone()
        } else {
            plane.balanced_url()
        };
        let proxy = proxy_to(&upstream, plane.ca_pem(), edit).await;
        Self { plane, proxy }
    }

    /// With a proxy that knows every apiserver by its own address.
    pub async fn listed(settings: Settings, edit: impl FnOnce(&mut Config)) -> Self {
        let plane = plane(settings).await;
        let proxy = proxy_before(&plane.urls(), plane.ca_pem(), edit).await;
        Self { plane, proxy }
    }

    /// One quick apiserver that speaks this protocol to the proxy, defaults in the proxy.
    pub async fn speaking(upstream: Protocol) -> Self {
        Self::with(speaking(upstream), |_| {}).await
    }

    /// A client of the proxy.
    pub async fn client(&self, protocol: Protocol) -> Client {
        Client::connect(
            self.proxy.address,
            self.proxy.ca_pem.as_deref().unwrap(),
            self.plane.token(),
            protocol,
        )
        .await
    }

    /// A client of the first apiserver itself.
    pub async fn direct(&self, protocol: Protocol) -> Client {
        Client::connect(
            self.plane.addresses()[0],
            self.plane.ca_pem(),
            self.plane.token(),
            protocol,
        )
        .await
    }

    /// What goes wrong with the first apiserver.
    pub fn faults(&self) -> &Arc<Faults> {
        self.plane.faults(0).unwrap()
    }

    /// A page of the proxy's admin port.
    pub async fn admin(&self, path: &str) -> Answer {
        admin::get(self.proxy.admin_address, path).await
    }

    /// `/debug/decisions`, newest first.
    pub async fn decisions(&self) -> Vec<serde_json::Value> {
        serde_json::from_slice(&self.admin("/debug/decisions").await.body).unwrap()
    }

    /// Stops both; a panic in the control plane's tasks fails the test here.
    pub async fn stop(self) {
        tokio::time::timeout(Duration::from_secs(20), self.proxy.stop())
            .await
            .expect("the proxy stops");
        self.plane.shutdown().await;
    }
}

/// A control plane with the namespace [`NAMESPACE`] and a quota in it.
pub async fn plane(settings: Settings) -> ControlPlane {
    let plane = ControlPlane::start(settings).await.unwrap();
    plane.create_namespace(NAMESPACE).unwrap();
    plane
        .create_quota(NAMESPACE, "compute-quota", &[("pods", "100k")])
        .unwrap();
    plane
}

/// One quick apiserver that speaks this protocol.
pub fn speaking(upstream: Protocol) -> Settings {
    Settings {
        apiservers: 1,
        http1_only: upstream == Protocol::Http1,
        ..Settings::quick()
    }
}

/// A proxy on free ports of loopback in front of `upstream`.
pub async fn proxy_to(upstream: &str, ca: &str, edit: impl FnOnce(&mut Config)) -> App {
    proxy_before(&[upstream.to_owned()], ca, edit).await
}

/// A proxy on free ports of loopback in front of these servers.
pub async fn proxy_before(servers: &[String], ca: &str, edit: impl FnOnce(&mut Config)) -> App {
    let mut config = Config::default();
    config.upstream.servers = servers.iter().map(|url| url.parse().unwrap()).collect();
    config.upstream.ca = Some(CaSource::Pem(ca.as_bytes().to_vec()));
    config.serving.bind_address = [127, 0, 0, 1].into();
    config.serving.secure_port = 0;
    config.admin.bind_address = SocketAddr::from(([127, 0, 0, 1], 0));
    // A test that has something open on purpose shall not wait for it.
    config.drain.timeout = Duration::from_millis(200);
    edit(&mut config);
    app::start(config, None).await.unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

pub const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// What a client can send: a whole body, or one that the test feeds.
pub trait RequestBody:
    http_body::Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static
{
}

impl<B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static> RequestBody
    for B
{
}

/// One connection. Over HTTP/1.1 one request at a time.
pub struct Client {
    sender: Sender,
    authority: String,
    token: String,
}

enum Sender {
    Http1(http1::SendRequest<BoxBody<Bytes, Infallible>>),
    Http2(http2::SendRequest<BoxBody<Bytes, Infallible>>),
}

impl Client {
    pub async fn connect(address: SocketAddr, ca: &str, token: &str, protocol: Protocol) -> Self {
        Self::over(
            tls_stream(address, ca, protocol).await,
            address,
            token,
            protocol,
        )
        .await
    }

    /// Over a connection that has been made already.
    pub async fn over(
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        token: &str,
        protocol: Protocol,
    ) -> Self {
        let sender = match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
                tokio::spawn(connection.with_upgrades());
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                        .await
                        .unwrap();
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Self {
            sender,
            authority: address.to_string(),
            token: token.to_owned(),
        }
    }

    /// A request with the token and, for HTTP/1.1, a `Host`; `path` starts with a slash.
    pub fn request(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let uri = match self.sender {
            Sender::Http1(_) => path.to_owned(),
            Sender::Http2(_) => format!("https://{}{path}", self.authority),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(AUTHORIZATION, format!("Bearer {}", self.token));
        if matches!(self.sender, Sender::Http1(_)) {
            request = request.header(HOST, &self.authority);
        }
        request.body(Full::new(body.into())).unwrap()
    }

    /// Another handle of the same HTTP/2 connection.
    pub fn share(&self) -> Self {
        let Sender::Http2(sender) = &self.sender else {
            panic!("HTTP/1.1 has one request at a time")
        };
        Self {
            sender: Sender::Http2(sender.clone()),
            authority: self.authority.clone(),
            token: self.token.clone(),
        }
    }

    /// Whether the connection takes no further requests, because it has closed or was told GOAWAY.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    pub async fn send<B: RequestBody>(&mut self, request: Request<B>) -> Response<Incoming> {
        self.try_send(request).await.unwrap()
    }

    pub async fn try_send<B: RequestBody>(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let request = request.map(BodyExt::boxed);
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => sender.send_request(request).await,
        }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask(self.request(Method::GET, path, "")).await
    }

    /// The answer to any request, read to its end.
    pub async fn ask<B: RequestBody>(&mut self, request: Request<B>) -> Answer {
        soon(async { Answer::of(self.send(request).await).await }).await
    }

    /// Creates a small pod in any namespace.
    pub async fn create_in(&mut self, namespace: &str, name: &str) -> Answer {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        self.ask(self.request(Method::POST, &path, pod(name))).await
    }

    /// Creates a small pod in [`NAMESPACE`], JSON both ways.
    pub async fn create(&mut self, name: &str) -> Answer {
        Answer::of(self.send(self.create_request(name)).await).await
    }

    pub fn create_request(&self, name: &str) -> Request<Full<Bytes>> {
        self.create_request_with(name, "")
    }

    /// A small pod and its answer in `encoding`; no apiserver takes YAML pods from a client
    /// library, so there the post is JSON.
    pub fn create_request_in(&self, name: &str, encoding: Encoding) -> Request<Full<Bytes>> {
        let mut request = self.create_request(name);
        request
            .headers_mut()
            .insert(ACCEPT, encoding.content_type());
        if encoding == Encoding::Protobuf {
            request
                .headers_mut()
                .insert(CONTENT_TYPE, encoding.content_type());
            *request.body_mut() = Full::new(pod_protobuf(name));
        }
        request
    }

    /// `query` begins with `?` or is empty.
    pub fn create_request_with(&self, name: &str, query: &str) -> Request<Full<Bytes>> {
        let mut request = self.request(
            Method::POST,
            &format!("/api/v1/namespaces/{NAMESPACE}/pods{query}"),
            pod(name),
        );
        request
            .headers_mut()
            .insert(CONTENT_TYPE, "application/json".parse().unwrap());
        request
            .headers_mut()
            .insert(ACCEPT, "application/json".parse().unwrap());
        request
    }
}

/// The body of a request.
pub enum Posted {
    /// With its length announced.
    Full(Full<Bytes>),
    /// Frame by frame, without an announced length.
    Frames {
        frames: VecDeque<Bytes>,
        /// Holds the last frame back until it is sent, or dropped.
        gate: Option<oneshot::Receiver<()>>,
        trailers: Option<HeaderMap>,
    },
}

impl Posted {
    /// In frames of at most 64 KiB, without an announced length.
    pub fn frames(body: impl Into<Bytes>) -> Self {
        let mut body = body.into();
        let mut frames = VecDeque::new();
        while !body.is_empty() {
            frames.push_back(body.split_to(body.len().min(64 << 10)));
        }
        Self::Frames {
            frames,
            gate: None,
            trailers: None,
        }
    }

    /// As [`Posted::frames`], but the last frame waits until the sender is used or dropped.
    pub fn gated(body: impl Into<Bytes>) -> (Self, oneshot::Sender<()>) {
        let (open, closed) = oneshot::channel();
        let mut posted = Self::frames(body);
        if let Self::Frames { gate, .. } = &mut posted {
            *gate = Some(closed);
        }
        (posted, open)
    }

    /// As [`Posted::frames`], with trailers. Over HTTP/1.1 a `Trailer` header must announce them.
    pub fn with_trailers(body: impl Into<Bytes>, headers: HeaderMap) -> Self {
        let mut posted = Self::frames(body);
        if let Self::Frames { trailers, .. } = &mut posted {
            *trailers = Some(headers);
        }
        posted
    }
}

impl HttpBody for Posted {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Full(full) => Pin::new(full).poll_frame(cx),
            Self::Frames {
                frames,
                gate,
                trailers,
            } => {
                if let (1, Some(closed)) = (frames.len(), gate.as_mut()) {
                    // Opened or dropped is all the same.
                    let _ = ready!(Pin::new(closed).poll(cx));
                    *gate = None;
                }
                let data = frames.pop_front().map(Frame::data);
                Poll::Ready(
                    data.or_else(|| trailers.take().map(Frame::trailers))
                        .map(Ok),
                )
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(full) => full.size_hint(),
            Self::Frames { .. } => SizeHint::default(),
        }
    }
}

/// An answer read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub async fn of(response: Response<Incoming>) -> Self {
        Self::try_of(response).await.unwrap()
    }

    /// An error where the body breaks off.
    #[expect(clippy::disallowed_methods, reason = "a test's own answers are small")]
    pub async fn try_of(response: Response<Incoming>) -> Result<Self, hyper::Error> {
        let (head, body) = response.into_parts();
        let collected = body.collect().await?;
        let trailers = collected.trailers().cloned();
        Ok(Self {
            status: head.status,
            headers: head.headers,
            body: collected.to_bytes(),
            trailers,
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}

/// A pod as a JSON body.
pub fn pod(name: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "main", "image": "busybox" }] },
    })
    .to_string()
}

/// The quota conflict of a real apiserver.
pub fn conflict() -> Fault {
    Fault::Answer(captured("quota_conflict_409"))
}

/// A pod as a protobuf body.
pub fn pod_protobuf(name: &str) -> Bytes {
    let container = Message::new().string(1, "main").string(2, "busybox");
    encode_object(
        "v1",
        "Pod",
        &Message::new()
            .message(1, &Message::new().string(1, name))
            .message(2, &Message::new().message(2, &container)),
    )
}

/// The directory of the captured requests and answers.
pub fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples")
}

/// A captured answer, dated, so that no server on the way adds a date of its own.
pub fn captured(name: &str) -> Canned {
    let raw = std::fs::read(samples().join(format!("{name}.http"))).unwrap();
    Canned::captured(&raw).unwrap().with(
        DATE,
        HeaderValue::from_static("Mon, 23 Nov 2026 04:45:11 GMT"),
    )
}

/// Fails unless `answer` is `canned` byte for byte: status, every header in its order, body, and
/// nothing else but the length.
pub fn assert_relayed(answer: &Answer, canned: &Canned, what: &str) {
    let mut headers = canned.headers.clone();
    headers.append(CONTENT_LENGTH, canned.body.len().into());
    assert_eq!(answer.status, canned.status, "{what}: {answer:?}");
    assert!(
        answer.headers.iter().eq(headers.iter()),
        "{what}: {:?} instead of {headers:?}",
        answer.headers
    );
    assert_eq!(answer.body, canned.body, "{what}");
    assert_eq!(answer.trailers, None, "{what}");
}

/// A TLS connection that trusts `ca` and offers one protocol.
pub async fn tls_stream(address: SocketAddr, ca: &str, protocol: Protocol) -> TlsStream<TcpStream> {
    try_tls_stream(address, ca, protocol).await.unwrap()
}

/// As [`tls_stream`]; an error where the handshake fails.
pub async fn try_tls_stream(
    address: SocketAddr,
    ca: &str,
    protocol: Protocol,
) -> io::Result<TlsStream<TcpStream>> {
    tls_stream_as(address, client_config(ca, protocol)).await
}

/// TLS over a TCP connection that has been made already.
pub async fn tls_over(tcp: TcpStream, ca: &str, protocol: Protocol) -> TlsStream<TcpStream> {
    let name = ServerName::try_from(tcp.peer_addr().unwrap().ip().to_string()).unwrap();
    TlsConnector::from(client_config(ca, protocol))
        .connect(name, tcp)
        .await
        .unwrap()
}

fn client_config(ca: &str, protocol: Protocol) -> Arc<ClientConfig> {
    let alpn = match protocol {
        Protocol::Http1 => tls::HTTP1,
        Protocol::Http2 => tls::H2,
    };
    tls::client_config(Some(&CaSource::Pem(ca.as_bytes().to_vec())), &[alpn]).unwrap()
}

/// A TLS connection of any configuration.
pub async fn tls_stream_as(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await.unwrap();
    // As every real client: a body would else wait 40 ms for the acknowledgement of its head.
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from(address.ip().to_string()).unwrap();
    TlsConnector::from(config).connect(name, tcp).await
}

/// A bound for what takes milliseconds, so that a failing test ends; above what a busy machine may
/// need.
const SOON: Duration = Duration::from_secs(30);

/// Fails the test when something does not happen, instead of hanging.
pub async fn soon<T>(happening: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, happening)
        .await
        .expect("it happens soon")
}

/// Waits until `reached` holds: for what another task does soon, without sleeping for a guessed
/// time.
pub async fn eventually(what: &str, mut reached: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(SOON, async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited
        .await
        .unwrap_or_else(|_| panic!("did not happen: {what}"));
}

/// How many servers of its upstream the proxy uses.
pub fn servers_up(proxy: &App) -> usize {
    let text = proxy.metrics.render();
    text.lines()
        .filter(|line| line.starts_with("kube_retry_proxy_upstream_up{") && line.ends_with(" 1"))
        .count()
}

/// The value of a sample of the proxy's metrics, 0 where there is none.
pub fn sample(proxy: &App, series: &str) -> f64 {
    sample_of(&proxy.metrics, series)
}

/// As [`sample`], also when the proxy has stopped.
pub fn sample_of(metrics: &Metrics, series: &str) -> f64 {
    let text = metrics.render();
    let line = text.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    line.and_then(|line| line.rsplit(' ').next())
        .map_or(0.0, |value| value.parse().unwrap())
}
