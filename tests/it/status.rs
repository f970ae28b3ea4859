//! The status page and what shows the same elsewhere: its numbers are those of `/metrics`, whatever
//! happened, and it is harmless.

use std::process::Command;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kube_retry_proxy::model::{Canned, Fault};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::executable::{Process, command, run, run_with_input};
use crate::support::{Answer, NAMESPACE, Protocol, Rig, captured, conflict, pod, sample, soon};

/// A proxy that has seen two conflicts cured, an answer that is never replayed, and a throttled
/// create.
async fn experienced() -> Rig {
    let rig = Rig::new().await;
    let mut client = rig.client(Protocol::Http1).await;
    rig.faults().next_create(conflict());
    rig.faults().next_create(conflict());
    assert_eq!(client.create("replayed").await.status, StatusCode::CREATED);
    assert_eq!(client.create("plain").await.status, StatusCode::CREATED);
    assert_eq!(client.create("plain").await.status, StatusCode::CONFLICT);
    rig.faults()
        .next_create(Fault::Answer(Canned::throttled(0)));
    assert_eq!(client.create("throttled").await.status, StatusCode::CREATED);
    rig
}

/// The text of a page of HTML, without its tags.
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
    // What an unescaped path can hold; escaped ones are no creates.
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
    /// What came so far.
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

    /// The events until one has `part` in it. False: they end before.
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

    // A viewer keeps nobody from stopping.
    rig.stop().await;
    assert!(
        !events.until("never sent").await,
        "the events end with the proxy"
    );
}

#[tokio::test]
async fn the_status_command_prints_the_same_numbers() {
    let rig = experienced().await;
    let address = rig.proxy.admin_address.to_string();
    let printed = run(command(&["status", "--admin-address", &address])).await;
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let lines: Vec<String> = printed
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "absorbed in the last minute 2",
        "absorbed since the start 2 of 2",
        "creates saved by a replay 2",
        "team 2 1 2 0 1",
        "created after a replay 2",
        "Attempts of one create 8 - 0",
    ] {
        assert!(
            lines.iter().any(|printed| printed == line),
            "no {line:?} in {}",
            printed.stdout
        );
    }
    let json = run(command(&[
        "status",
        "-o",
        "json",
        "--admin-address",
        &format!("http://{address}/"),
    ]))
    .await
    .stdout;
    let (json, page): (Value, _) = (
        serde_json::from_str(&json).unwrap(),
        rig.admin("/status.json").await.json(),
    );
    for field in [
        "version",
        "mode",
        "outcomes",
        "namespaces",
        "limits",
        "decisions",
    ] {
        assert_eq!(json[field], page[field], "{field}");
    }
    let mut inside = command(&["status"]);
    inside.env(
        "KUBE_RETRY_PROXY_ADMIN_BIND_ADDRESS",
        format!("0.0.0.0:{}", rig.proxy.admin_address.port()),
    );
    assert_eq!(
        run(inside).await.code,
        Some(0),
        "as in the container of a proxy"
    );

    let wrong = run(command(&[
        "status",
        "--admin-address",
        &rig.proxy.address.to_string(),
    ]))
    .await;
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(1), ""));
    rig.stop().await;
    let gone = run(command(&["status", "--admin-address", &address])).await;
    assert_eq!(gone.code, Some(1));
    assert!(
        gone.stderr
            .contains(&format!("cannot connect to {address}"))
            && gone.stderr.contains("refused"),
        "{}",
        gone.stderr
    );
}

#[tokio::test]
async fn explain_tells_the_decisions_of_a_running_proxy_and_saved_ones() {
    let rig = experienced().await;
    let address = rig.proxy.admin_address.to_string();
    let told = run(command(&[
        "explain",
        "--admin-address",
        &address,
        "--namespace",
        NAMESPACE,
    ]))
    .await;
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert_eq!(told.stdout.matches("create    pods team/").count(), 4);
    assert!(
        told.stdout
            .contains("outcome   created after a replay (3 attempts, held "),
        "{}",
        told.stdout
    );
    assert!(
        told.stdout
            .contains("  attempt 1  409 quota conflict, took ")
            && told.stdout.contains("(safe to send again)"),
        "{}",
        told.stdout
    );
    let saved = rig.admin("/debug/decisions").await.body;
    assert_eq!(
        run_with_input(command(&["explain"]), &saved).await.stdout,
        told.stdout
    );
    let one = run(command(&[
        "explain",
        "--admin-address",
        &address,
        "--limit",
        "1",
    ]))
    .await;
    assert!(
        told.stdout.starts_with(&one.stdout) && one.stdout.contains("team/throttled"),
        "{}",
        one.stdout
    );
    let none = run(command(&[
        "explain",
        "--admin-address",
        &address,
        "--namespace",
        "elsewhere",
    ]))
    .await;
    assert_eq!(none.stdout, "No creates yet.\n");
    rig.stop().await;
}

#[tokio::test]
async fn completions_are_scripts_of_their_shells() {
    for (shell, mark) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef kube-retry-proxy"),
        ("fish", "complete -c kube-retry-proxy"),
    ] {
        let script = run(command(&["completion", shell])).await.stdout;
        for word in [mark, "check-config", "admin-address", "self-signed-dir"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), script).unwrap();
        match Command::new(shell).arg("-n").arg(file.path()).output() {
            Ok(checked) => assert!(checked.status.success(), "{shell}: {checked:?}"),
            // Bash is what the checks themselves are written in.
            Err(error) => assert!(shell != "bash", "{error}"),
        }
    }
}

#[tokio::test]
async fn the_demo_serves_until_it_is_interrupted() {
    let mut demo = Process::start(command(&["demo", "--serve"]));
    let line = demo.stdout_line("Status page: http://").await;
    let address = line
        .trim_start_matches("Status page: http://")
        .trim_end_matches('/')
        .to_owned();
    let status = run(command(&["status", "--admin-address", &address])).await;
    assert!(
        status.stdout.contains("QUOTA CONFLICTS"),
        "{}",
        status.stderr
    );
    demo.signal("INT");
    assert_eq!(demo.ended().await.code, Some(0));
}
