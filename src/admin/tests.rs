use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use tokio::time::timeout;

use super::*;
use crate::status::ObjectMeta;
use crate::verdict::Outcome;

struct Running {
    address: SocketAddr,
    readiness: Arc<Readiness>,
    decisions: Arc<Decisions>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

async fn start() -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (readiness, decisions) = (Arc::new(Readiness::new()), Arc::new(Decisions::new(8)));
    let admin = Admin {
        metrics: Arc::new(Metrics::new(100, &[])),
        decisions: Arc::clone(&decisions),
        readiness: Arc::clone(&readiness),
        config: Box::new(Arc::default),
        servers: Box::new(Vec::new),
    };
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(serve(listener, admin, shutdown.clone()));
    Running {
        address,
        readiness,
        decisions,
        shutdown,
        task,
    }
}

impl Running {
    /// Sends `request` as it is, and reads to the end.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Status code and body.
    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self
            .raw(&format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n"))
            .await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (
            head.split(' ').nth(1).unwrap().parse().unwrap(),
            body.to_owned(),
        )
    }

    /// Starts to listen to the live updates: the code, and the connection.
    async fn view(&self) -> (u16, TcpStream) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream
            .write_all(b"GET /events HTTP/1.1\r\nHost: admin\r\n\r\n")
            .await
            .unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).await.unwrap();
        (
            std::str::from_utf8(&begin[9..]).unwrap().parse().unwrap(),
            stream,
        )
    }

    async fn json(&self, path: &str) -> Value {
        let (code, body) = self.get(path).await;
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

fn ok(body: &str) -> (u16, String) {
    (200, body.into())
}

#[tokio::test]
async fn probes_answer_like_kube_apiserver() {
    let admin = start().await;
    let check = admin.readiness.check("upstream");
    assert_eq!(admin.get("/livez").await, ok("ok"));
    assert_eq!(admin.get("/healthz").await, ok("ok"));
    assert_eq!(
        admin.get("/livez?verbose").await,
        ok("[+]ping ok\nlivez check passed\n")
    );
    let failed = "[+]ping ok\n[-]upstream failed: not checked yet\nreadyz check failed\n";
    assert_eq!(admin.get("/readyz").await, (500, failed.into()));
    check.set(Ok(String::new()));
    assert_eq!(admin.get("/readyz").await, ok("ok"));
    assert_eq!(
        admin.get("/readyz?verbose=true").await,
        ok("[+]ping ok\n[+]upstream ok\nreadyz check passed\n")
    );
}

#[tokio::test]
async fn metrics_and_configuration_are_shown() {
    let admin = start().await;
    let (code, body) = admin.get("/metrics").await;
    assert_eq!(code, 200);
    assert!(
        body.contains("# TYPE kube_retry_proxy_requests_total counter")
            || body.contains("kube_retry_proxy_build_info"),
        "{body}"
    );
    assert_eq!(admin.json("/configz").await["mode"], "Enforce");
}

#[tokio::test]
async fn decisions_are_narrowed_by_the_query() {
    let admin = start().await;
    for (namespace, resource, name, outcome) in [
        ("a", "pods", "1", Outcome::GaveUp),
        ("b", "pods", "2", Outcome::Created),
        ("a", "jobs.batch", "3", Outcome::Created),
    ] {
        let mut record = admin.decisions.begin(namespace, resource);
        record.object(&ObjectMeta::named(name, ""));
        record.end(outcome, "");
    }
    let names = |json: Value| {
        json.as_array()
            .unwrap()
            .iter()
            .map(|each| each["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(admin.json("/debug/decisions").await), ["3", "2", "1"]);
    let rows: [(&str, &[&str]); 5] = [
        ("namespace=a&limit=1", &["3"]),
        ("namespace=a&outcome=gave_up", &["1"]),
        ("resource=pods", &["2", "1"]),
        ("resource=jobs.batch", &["3"]),
        ("resource=jobs", &[]),
    ];
    for (query, wanted) in rows {
        let found = names(admin.json(&format!("/debug/decisions?{query}")).await);
        assert_eq!(found, wanted, "{query}");
    }
    for (query, expected) in [
        ("limit=many", "a whole number"),
        ("outcome=gaveUp", "one of created, "),
    ] {
        let (code, body) = admin.get(&format!("/debug/decisions?{query}")).await;
        assert_eq!(code, 400, "{query}");
        assert!(body.contains(expected), "{query}: {body}");
    }
    assert_eq!(admin.json("/debug/held").await, json!([]));
}

#[tokio::test]
async fn the_status_page_links_to_every_other_page() {
    let admin = start().await;
    let (code, body) = admin.get("/").await;
    assert_eq!(code, 200);
    let pages: Vec<_> = body
        .split("href=\"/")
        .skip(1)
        .filter_map(|rest| rest.split_once('"'))
        .map(|(page, _)| format!("/{page}"))
        .collect();
    assert!(pages.len() >= 7, "{pages:?}");
    for page in pages {
        assert_eq!(admin.get(&page).await.0, 200, "{page}");
    }
}

#[tokio::test]
async fn viewers_are_limited_and_free_their_places() {
    let admin = start().await;
    let mut viewers = Vec::new();
    for _ in 0..events::MAX_VIEWERS {
        let (code, viewer) = admin.view().await;
        assert_eq!(code, 200);
        viewers.push(viewer);
    }
    assert_eq!(admin.view().await.0, 503);
    assert_eq!(
        admin.get("/livez").await,
        ok("ok"),
        "probes have their own places"
    );
    let head = admin
        .raw("HEAD /events HTTP/1.1\r\nHost: admin\r\n\r\n")
        .await;
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.contains("text/event-stream"),
        "{head}"
    );
    drop(viewers);
    let freed = timeout(Duration::from_secs(30), async {
        while admin.view().await.0 != 200 {
            sleep(Duration::from_millis(20)).await;
        }
    });
    freed.await.unwrap();
}

#[tokio::test]
async fn shutdown_ends_live_pages() {
    let admin = start().await;
    let (_, mut viewer) = admin.view().await;
    admin.shutdown.cancel();
    admin.task.await.unwrap();
    let mut rest = String::new();
    timeout(Duration::from_secs(30), viewer.read_to_string(&mut rest))
        .await
        .expect("it ends")
        .unwrap();
    assert!(
        rest.ends_with("\r\n0\r\n\r\n"),
        "ended and not cut: {rest:?}"
    );
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_in_clear_words() {
    let admin = start().await;
    assert_eq!(
        admin.get("/api/v1/pods").await,
        (
            404,
            "No such page. The page at / links to all of them.\n".into()
        )
    );
    let answer = admin
        .raw("POST /metrics HTTP/1.1\r\nHost: admin\r\nContent-Length: 1000000\r\n\r\n")
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 405 ")
            && answer.contains("allow: GET, HEAD")
            && answer.contains("read-only"),
        "{answer}"
    );
    let answer = admin
        .raw("HEAD /livez HTTP/1.1\r\nHost: admin\r\n\r\n")
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn malformed_and_oversized_requests_do_not_affect_probes() {
    let admin = start().await;
    assert!(
        admin
            .raw("\x16\x03\x01 no http\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400 ")
    );
    let cookies = format!(
        "GET / HTTP/1.1\r\nHost: admin\r\nCookie: {}\r\n\r\n",
        "x".repeat(MAX_HEAD / 2)
    );
    assert!(
        admin.raw(&cookies).await.starts_with("HTTP/1.1 200 "),
        "what a browser brings is no reason to refuse it"
    );
    let head = format!("GET /livez HTTP/1.1\r\nX-Large: {}", "x".repeat(MAX_HEAD));
    // Not a byte more than the limit: what nobody reads would reset the connection under the
    // answer.
    let answer = admin.raw(&head[..MAX_HEAD]).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    // A client that says nothing holds one connection; probes get theirs.
    let _silent = TcpStream::connect(admin.address).await.unwrap();
    assert_eq!(admin.get("/livez").await, ok("ok"));
}

#[tokio::test]
async fn shutdown_stops_accepting_and_returns() {
    let admin = start().await;
    assert_eq!(admin.get("/livez").await.0, 200);
    admin.shutdown.cancel();
    admin.task.await.unwrap();
    assert!(TcpStream::connect(admin.address).await.is_err());
}
