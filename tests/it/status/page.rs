//! The status page: its numbers always equal those of `/metrics`, and it escapes untrusted text.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use model_control_plane::Fault;
use tokio::net::TcpStream;

use super::experienced;
use crate::support::{Answer, NAMESPACE, Protocol, Rig, captured, conflict, pod, sample, soon};

/// The text of an HTML page without its tags.
fn text(html: &str) -> String {
    let pieces = html
        .split('<')
        .map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text));
    pieces
        .flat_map(str::split_whitespace)
        .collect::<Vec<_>>()
        .join(" ")
}

fn sum(rig: &Rig, prefix: &str) -> u64 {
    let scrape = rig.proxy.metrics.render();
    let series = scrape
        .lines()
        .filter(|line| line.starts_with(&format!("kube_retry_proxy_{prefix}")));
    series
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[tokio::test]
async fn the_page_and_its_data_equal_the_metrics() {
    let rig = experienced().await;
    let status = rig.admin("/status.json").await.json();
    let (met, absorbed) = (
        sum(&rig, "conflicts_total{"),
        sum(&rig, "replays_total{class=\"quota_conflict"),
    );
    assert_eq!((met, absorbed), (2, 2));
    assert_eq!(
        (
            &status["conflicts"]["met"],
            &status["conflicts"]["absorbed"]
        ),
        (&met.into(), &absorbed.into())
    );
    assert_eq!(
        status["conflicts"]["absorbedPerMinute"]
            .as_array()
            .unwrap()
            .last()
            .unwrap(),
        absorbed
    );
    for ended in status["outcomes"].as_array().unwrap() {
        let outcome = ended["outcome"].as_str().unwrap();
        let series = format!(
            "kube_retry_proxy_outcomes_total{{namespace=\"{NAMESPACE}\",outcome=\"{outcome}\"}}"
        );
        assert_eq!(
            ended["count"].as_f64().unwrap(),
            sample(&rig.proxy, &series),
            "{outcome}"
        );
    }
    let namespace = &status["namespaces"][0];
    let numbers = [
        "conflicts",
        "created",
        "createdAfterReplay",
        "gaveUp",
        "others",
    ]
    .map(|field| namespace[field].as_u64().unwrap());
    assert_eq!(
        (namespace["name"].as_str().unwrap(), numbers),
        (NAMESPACE, [2, 1, 2, 0, 1])
    );
    let expiry = sample(
        &rig.proxy,
        "kube_retry_proxy_certificate_expiry_timestamp_seconds",
    );
    assert!(expiry > 0.0 && status["certificate"]["secondsLeft"].as_f64().unwrap() < expiry);
    let server = &status["servers"][0];
    assert_eq!(
        (&server["address"], &server["healthy"]),
        (&rig.plane.addresses()[0].to_string().into(), &true.into()),
        "{server}"
    );

    let page = rig.admin("/").await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let (page, policy) = (
        text(&page.text()),
        page.headers["content-security-policy"]
            .to_str()
            .unwrap()
            .to_owned(),
    );
    assert!(
        policy.contains("default-src 'none'") && policy.contains("script-src 'sha256-"),
        "{policy}"
    );
    for part in [
        "absorbed in the last minute 2 ",
        "absorbed since the start 2 of 2 ",
        "creates saved by a replay 2 ",
        "team 2 1 2 0 1 ",
        "created after a replay 2 50.0 %",
        "team/replayed created after a replay 409 quota conflict, sent again after ",
        "team/plain refused 409 already exists. An object of this name exists",
        "The last 4 creates, newest first. 1 succeeded at the first attempt",
    ] {
        assert!(page.contains(part), "no {part:?} in {page}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn names_from_urls_and_bodies_stay_text() {
    let rig = Rig::new().await;
    let mut client = rig.client(Protocol::Http1).await;
    // Characters that an unescaped path can contain. Paths with escapes are not creates.
    rig.faults()
        .next_create(Fault::Answer(captured("exceeded_quota_403")));
    let body = pod("<script>alert(1)</script><img src=x onerror='alert(2)'>");
    let mut request = client.request(Method::POST, "/api/v1/namespaces/a\"b'c&lt;/pods", body);
    request
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    assert_eq!(
        Answer::of(client.send(request).await).await.status,
        StatusCode::FORBIDDEN
    );
    let decision = &rig.decisions().await[0];
    assert!(
        decision["namespace"] == "a\"b'c&lt;"
            && decision["name"].as_str().unwrap().starts_with("<script>"),
        "{decision}"
    );
    let page = rig.admin("/").await.text();
    assert!(
        page.contains("a&quot;b&#39;c&amp;lt;/&lt;script&gt;alert(1)&lt;/script&gt;&lt;img"),
        "it is shown: {page}"
    );
    assert!(
        !page.contains("<script>alert") && !page.contains("<img"),
        "{page}"
    );
    rig.stop().await;
}

/// The live updates of the status page.
struct Events {
    body: Incoming,
    /// The bytes received so far.
    text: String,
}

impl Events {
    async fn open(rig: &Rig) -> Self {
        let stream = TcpStream::connect(rig.proxy.admin_address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/events")
            .header("Host", "admin")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            body: response.into_body(),
            text: String::new(),
        }
    }

    /// Reads events until one contains `part`. Returns false if the stream ends first.
    async fn until(&mut self, part: &str) -> bool {
        self.text.clear();
        soon(async {
            while let Some(frame) = self.body.frame().await {
                self.text +=
                    std::str::from_utf8(&frame.unwrap().into_data().unwrap_or_default()).unwrap();
                if self.text.contains(part) {
                    return true;
                }
            }
            false
        })
        .await
    }
}

#[tokio::test]
async fn a_create_is_seen_live_and_only_what_changed_is_sent() {
    let rig = Rig::new().await;
    let mut events = Events::open(&rig).await;
    assert!(events.until("data: <section id=\"decisions\">").await);
    assert!(
        events.text.starts_with("retry: ") && events.text.contains("<dd>0 of 0</dd>"),
        "{}",
        events.text
    );
    assert!(events.until("id=\"headline\"").await);
    assert!(
        !events.text.contains("id=\"limits\""),
        "nothing has changed there: {}",
        events.text
    );

    rig.faults().next_create(conflict());
    assert_eq!(
        rig.client(Protocol::Http1)
            .await
            .create("seen")
            .await
            .status,
        StatusCode::CREATED
    );
    assert!(events.until("team/seen").await);
    assert!(
        events.text.contains("data: <section id=\"conflicts\">")
            && events.text.contains("<dd>1 of 1</dd>"),
        "{}",
        events.text
    );

    // An open status page does not delay the shutdown.
    rig.stop().await;
    assert!(
        !events.until("never sent").await,
        "the events end with the proxy"
    );
}
