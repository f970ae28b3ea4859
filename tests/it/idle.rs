//! HTTP/1.1 connections to the apiserver that close just when they are reused. It is unknown then
//! whether the apiserver received the request.

use std::sync::{Arc, Mutex};

use http::{Method, StatusCode};
use kube_retry_proxy::app::App;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::raw::Raw;
use crate::support::{Client, NAMESPACE, Protocol, pod, proxy_to, soon};

const NOTHING: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A received request: its request line without the version, and the number of earlier requests on
/// the same connection.
type Arrived = (String, usize);

/// An upstream that closes the connection instead of answering: for a path with `/once/` if the
/// connection was used before, for one with `/always/` in every case.
struct Closing {
    proxy: App,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    _connections: JoinSet<()>,
}

impl Closing {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let arrived = Arc::<Mutex<Vec<Arrived>>>::default();
        let mut connections = JoinSet::new();
        let journal = Arc::clone(&arrived);
        connections.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(Raw::new(stream), Arc::clone(&journal)));
            }
        });
        Self {
            proxy: proxy_to(&url, "", |_| {}).await,
            arrived,
            _connections: connections,
        }
    }

    async fn client(&self, protocol: Protocol) -> Client {
        Client::connect(
            self.proxy.address,
            self.proxy.ca_pem.as_deref().unwrap(),
            "token",
            protocol,
        )
        .await
    }

    /// The received requests whose paths contain this text.
    fn at(&self, path: &str) -> Vec<Arrived> {
        self.arrived
            .lock()
            .unwrap()
            .iter()
            .filter(|(line, _)| line.contains(path))
            .cloned()
            .collect()
    }
}

async fn serve(mut connection: Raw<TcpStream>, journal: Arc<Mutex<Vec<Arrived>>>) {
    for before in 0.. {
        let Some((head, _body)) = connection.message().await else {
            return;
        };
        let line = head.line.strip_suffix(" HTTP/1.1").unwrap().to_owned();
        let close = line.contains("/always/") || (line.contains("/once/") && before > 0);
        if !line.contains("/readyz") {
            journal.lock().unwrap().push((line, before));
        }
        if close {
            return;
        }
        connection.write(NOTHING).await;
    }
}

cases!(
    a_read_that_crosses_the_close_of_an_idle_connection_is_sent_once_more,
    protocols,
    [
        get(Method::GET),
        head(Method::HEAD),
        options(Method::OPTIONS),
    ]
);
async fn a_read_that_crosses_the_close_of_an_idle_connection_is_sent_once_more(
    protocol: Protocol,
    method: Method,
) {
    let rig = Closing::start().await;
    let mut client = rig.client(protocol).await;
    // Repeats until a request uses an idle connection. The last connection may not have been
    // returned to the pool yet.
    let path = format!("/once/{method}");
    soon(async {
        while !rig.at(&path).iter().any(|(_, before)| *before > 0) {
            assert_eq!(
                client
                    .ask(client.request(method.clone(), &path, ""))
                    .await
                    .status,
                StatusCode::OK,
                "{method}"
            );
        }
    })
    .await;
    let arrived = rig.at(&path);
    assert_eq!(
        arrived.last().unwrap().1,
        0,
        "answered over a new connection: {arrived:?}"
    );
    assert_eq!(
        arrived.iter().filter(|(_, before)| *before > 0).count(),
        1,
        "{arrived:?}"
    );
    rig.proxy.stop().await;
}

cases!(
    a_read_is_not_sent_a_third_time_nor_again_over_a_new_connection,
    protocols
);
async fn a_read_is_not_sent_a_third_time_nor_again_over_a_new_connection(protocol: Protocol) {
    let rig = Closing::start().await;
    let mut client = rig.client(protocol).await;
    assert_eq!(
        client.get("/always/first").await.status,
        StatusCode::GATEWAY_TIMEOUT
    );
    assert_eq!(
        rig.at("/always/first").len(),
        1,
        "over a new connection, which was not idle"
    );
    soon(async {
        for n in 0.. {
            client.get("/warm").await;
            let path = format!("/always/again-{n}");
            assert_eq!(client.get(&path).await.status, StatusCode::GATEWAY_TIMEOUT);
            let arrived = rig.at(&path);
            if arrived[0].1 > 0 {
                assert_eq!(arrived.len(), 2, "{arrived:?}");
                return;
            }
            assert_eq!(arrived.len(), 1, "{arrived:?}");
        }
    })
    .await;
    rig.proxy.stop().await;
}

cases!(
    a_write_that_crosses_the_close_is_never_sent_again,
    protocols,
    [
        a_create(
            Method::POST,
            format!("/api/v1/namespaces/{NAMESPACE}/pods?x=/once/"),
            pod("a")
        ),
        post(Method::POST, "/once/".to_owned(), String::new()),
        put(Method::PUT, "/once/".to_owned(), "{}".to_owned()),
        delete(Method::DELETE, "/once/".to_owned(), String::new()),
        // A read with a body is not replayed either, because its meaning is unknown.
        a_read_with_a_body(Method::GET, "/once/".to_owned(), "{}".to_owned()),
    ]
);
async fn a_write_that_crosses_the_close_is_never_sent_again(
    protocol: Protocol,
    method: Method,
    path: String,
    body: String,
) {
    let rig = Closing::start().await;
    let mut client = rig.client(protocol).await;
    soon(async {
        loop {
            let before = rig.at("/once/").len();
            let mut request = client.request(method.clone(), &path, body.clone());
            request
                .headers_mut()
                .insert("idempotency-key", "a".parse().unwrap());
            let answer = client.ask(request).await;
            let arrived = rig.at("/once/").split_off(before);
            assert_eq!(arrived.len(), 1, "{method} {path}: {arrived:?}");
            if arrived[0].1 > 0 {
                assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
                return;
            }
        }
    })
    .await;
    rig.proxy.stop().await;
}
