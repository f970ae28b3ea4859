//! Tokens and bodies never appear in the log (after any failure, at any level), on the pages of the
//! admin port, or in error messages.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::Full;
use model_control_plane::{Canned, Fault, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::executable::{Exit, Place, Served, command, run, serve};
use crate::support::{Answer, Client, Protocol, admin, conflict, eventually, pod, tls_stream};

/// The secrets, each named after the place where it is sent.
const TOKEN: &str = "MARKER-bearer-token";
const WRONG_TOKEN: &str = "MARKER-wrong-token";
const BODY: &str = "MARKER-in-the-body";
const COOKIE: &str = "MARKER-cookie";
const WEBSOCKET: &str = "MARKER-websocket-bearer";
const ANSWER: &str = "MARKER-in-the-answer";

fn assert_no_marker(place: &str, text: &str) {
    if let Some(line) = text.lines().find(|line| line.contains("MARKER")) {
        panic!("{place} shows a secret: {line}");
    }
}

cases!(
    no_secret_is_logged_or_shown_whatever_happens_to_requests,
    [text("text"), json("json")]
);
async fn no_secret_is_logged_or_shown_whatever_happens_to_requests(format: &str) {
    let place = Place::with(Settings {
        apiservers: 1,
        tokens: vec![TOKEN.into()],
        ..Settings::quick()
    })
    .await;
    let config = place.config("replay: {maxHold: 1h, baseDelay: 1ms}\ndrain: {timeout: 1s}\n");
    let served = Served::start(command(&[
        "serve",
        "--config",
        &config,
        "--log-level",
        "trace",
        "--log-format",
        format,
    ]))
    .await;
    let ca = place.read("ca.crt");
    for protocol in [Protocol::Http1, Protocol::Http2] {
        requests(&place, served.address, &ca, protocol).await;
    }
    upgrades(served.address, &ca).await;
    broken_connections(served.address, &ca).await;
    let held = hold(&place, &served, &ca).await;

    admin::get_until(served.admin, "/readyz", |answer| answer.status.is_success()).await;
    for page in [
        "/metrics",
        "/configz",
        "/debug/decisions",
        "/debug/held",
        "/readyz?verbose",
        "/status.json",
        "/",
    ] {
        let answer = admin::get(served.admin, page).await;
        assert!(answer.status.is_success(), "{page}: {answer:?}");
        assert_no_marker(page, &answer.text());
    }
    assert!(
        admin::get(served.admin, "/debug/held")
            .await
            .text()
            .contains("held-pod"),
        "names are shown"
    );
    held.abort();
    served.process.signal("TERM");
    let log = served.process.ended().await.stderr;
    assert_no_marker(&format!("the log in {format}"), &log);
    let is_detail = |line: &&str| line.contains("DEBUG") || line.contains("TRACE");
    let strangers: Vec<_> = log
        .lines()
        .filter(is_detail)
        .filter(|line| !line.contains("kube_retry_proxy::"))
        .take(3)
        .collect();
    assert!(
        strangers.is_empty(),
        "what other crates log below warnings may hold anything: {strangers:?}"
    );
    for part in [
        "DEBUG",
        "Replaying a create",
        "The proxy answers itself",
        "Connection ended",
    ] {
        assert!(
            log.contains(part),
            "the log has {part:?}, or this test would prove nothing: {log}"
        );
    }
}

/// Creates and reads that succeed, are replayed, are refused, and fail.
async fn requests(place: &Place, address: SocketAddr, ca: &str, protocol: Protocol) {
    let faults = place.plane.faults(0).unwrap();
    let prefix = format!("{protocol:?}").to_lowercase();
    let mut client = Client::connect(address, ca, TOKEN, protocol).await;
    let answer = Canned::new(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", ANSWER);
    for (number, fault) in [
        None,
        Some((conflict(), StatusCode::CREATED)),
        Some((Fault::Reset, StatusCode::GATEWAY_TIMEOUT)),
        Some((Fault::LoseAnswer, StatusCode::GATEWAY_TIMEOUT)),
        Some((Fault::Answer(answer), StatusCode::INTERNAL_SERVER_ERROR)),
        Some((Fault::CutAfter, StatusCode::GATEWAY_TIMEOUT)),
    ]
    .into_iter()
    .enumerate()
    {
        let expected = fault
            .as_ref()
            .map_or(StatusCode::CREATED, |(_, expected)| *expected);
        fault
            .into_iter()
            .for_each(|(fault, _)| faults.next_create(fault));
        assert_eq!(
            create(&mut client, &secret_pod(&format!("{prefix}-{number}")))
                .await
                .status,
            expected
        );
    }
    assert_eq!(
        create(&mut client, &format!("{{\"metadata\": {BODY}"))
            .await
            .status,
        StatusCode::BAD_REQUEST
    );
    let mut get = client.request(Method::GET, "/echo", "");
    get.headers_mut()
        .insert("cookie", HeaderValue::from_static(COOKIE));
    assert!(
        Answer::of(client.send(get).await)
            .await
            .text()
            .contains(COOKIE),
        "it reaches the apiserver"
    );
    faults.next_request(Fault::Reset);
    assert_eq!(client.get("/api").await.status, StatusCode::GATEWAY_TIMEOUT);
    let mut stranger = Client::connect(address, ca, WRONG_TOKEN, protocol).await;
    assert_eq!(
        create(&mut stranger, &secret_pod("never")).await.status,
        StatusCode::UNAUTHORIZED
    );
    // A connection that is being cut may or may not still accept the request.
    faults.set_down(true);
    assert!(client.get("/api").await.status.is_server_error());
    faults.set_down(false);
}

async fn create(client: &mut Client, body: &str) -> Answer {
    let mut request = client
        .create_request("")
        .map(|_| Full::<Bytes>::from(body.to_owned()));
    request
        .headers_mut()
        .insert("cookie", HeaderValue::from_static(COOKIE));
    Answer::of(client.send(request).await).await
}

fn secret_pod(name: &str) -> String {
    pod(name).replace("busybox", BODY)
}

/// An exec over SPDY that transfers bytes, one over WebSocket with its token in the protocol
/// header, and one that fails.
async fn upgrades(address: SocketAddr, ca: &str) {
    let path = "/api/v1/namespaces/team/pods/a/exec?command=true";
    for (upgrade, token, expected) in [
        ("SPDY/3.1", TOKEN, StatusCode::SWITCHING_PROTOCOLS),
        ("websocket", TOKEN, StatusCode::SWITCHING_PROTOCOLS),
        ("websocket", WRONG_TOKEN, StatusCode::UNAUTHORIZED),
    ] {
        let mut client = Client::connect(address, ca, token, Protocol::Http1).await;
        let mut request = client.request(Method::GET, path, "");
        let headers = request.headers_mut();
        headers.insert("connection", HeaderValue::from_static("Upgrade"));
        headers.insert("upgrade", HeaderValue::from_static(upgrade));
        let protocols =
            format!("base64url.bearer.authorization.k8s.io.{WEBSOCKET}, v5.channel.k8s.io");
        headers.insert("sec-websocket-protocol", protocols.parse().unwrap());
        let mut response = client.send(request).await;
        assert_eq!(response.status(), expected);
        if expected == StatusCode::SWITCHING_PROTOCOLS {
            let mut tunnel =
                hyper_util::rt::TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
            tunnel.write_all(BODY.as_bytes()).await.unwrap();
            let mut echoed = vec![0; BODY.len()];
            tunnel.read_exact(&mut echoed).await.unwrap();
            assert_eq!(echoed, BODY.as_bytes());
        }
    }
}

/// Requests that are not HTTP or are truncated.
async fn broken_connections(address: SocketAddr, ca: &str) {
    for raw in [
        format!(
            "GET /api HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n{COOKIE}\r\n\r\n"
        ),
        format!(
            "POST /api/v1/namespaces/team/pods HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 1000\r\n\r\n{BODY}"
        ),
        format!(
            "POST /api HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n{BODY}\r\n"
        ),
    ] {
        let mut stream = tls_stream(address, ca, Protocol::Http1).await;
        stream.write_all(raw.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // The answer and the end of the connection do not matter here.
        let _ = stream.read_to_end(&mut answer).await;
    }
}

/// A create that the proxy holds until the task is aborted.
async fn hold(place: &Place, served: &Served, ca: &str) -> tokio::task::JoinHandle<Answer> {
    eventually("the server is up", || {
        !place.plane.faults(0).unwrap().is_down()
    })
    .await;
    place
        .plane
        .faults(0)
        .unwrap()
        .next_create(Fault::Answer(Canned::throttled(1000)));
    let mut client = served.client(ca, TOKEN).await;
    let held = tokio::spawn(async move { create(&mut client, &secret_pod("held-pod")).await });
    admin::get_until(served.admin, "/debug/held", |answer| {
        answer.text().contains("held-pod")
    })
    .await;
    held
}

#[tokio::test]
async fn no_secret_is_printed_by_an_error() {
    let place = Place::new().await;
    let url = "https://admin:MARKER-password@10.0.0.1:6443";
    let kubeconfig = |server: &str, broken: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{{name: a, cluster: {{server: '{server}'}}}}]\n\
             contexts: [{{name: a, context: {{cluster: a, user: me}}}}]\nusers:\n- {{name: me, user: {{token: MARKER-token{broken}}}}}\n"
        )
    };
    let with_password = place.write("with-password", &kubeconfig(url, ""));
    let broken = place.write(
        "broken",
        &kubeconfig("https://10.0.0.1", ", as-groups: MARKER-text"),
    );
    let unclosed = place.write(
        "unclosed",
        &kubeconfig("https://10.0.0.1", "").replace("MARKER-token}", "\"MARKER-token}"),
    );
    let garbage = place.write(
        "garbage.pem",
        "-----BEGIN PRIVATE KEY-----\nMARKER-key!\n-----END PRIVATE KEY-----\n",
    );
    let config = place.write(
        "file.yaml",
        &format!("apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\nupstream: {{url: '{url}'}}\nmode: [\"MARKER\n"),
    );
    let mistake = place
        .write("mistake.yaml", &format!("apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\nupstream: {{url: '{url}'}}\n"));
    let to = ["kubeconfig", "--server", "https://127.0.0.1:8443", "--from"];
    let mut with_environment = serve(&[]);
    with_environment.env("KUBE_RETRY_PROXY_UPSTREAM", url);
    let refused: Vec<(&str, Exit)> = vec![
        ("a flag", run(serve(&["--upstream", url])).await),
        ("the environment", run(with_environment).await),
        (
            "a kubeconfig's server",
            run(serve(&["--kubeconfig", &with_password])).await,
        ),
        ("a kubeconfig", run(serve(&["--kubeconfig", &broken])).await),
        (
            "an unclosed kubeconfig",
            run(serve(&["--kubeconfig", &unclosed])).await,
        ),
        (
            "a rewritten kubeconfig",
            run(command(&[&to[..], &[&broken]].concat())).await,
        ),
        ("a file", run(command(&["check-config", &config])).await),
        ("a mistake", run(command(&["check-config", &mistake])).await),
        (
            "a file of serve",
            run(command(&["serve", "--config", &mistake])).await,
        ),
        ("a CA", run(place.serve_trusting(&garbage, &[])).await),
        (
            "a key",
            run(place.serve(&[
                "--tls-cert-file",
                &place.path("upstream-ca.crt"),
                "--tls-private-key-file",
                &garbage,
            ]))
            .await,
        ),
        ("a stray argument", run(serve(&[url])).await),
        (
            "a proxy's URL",
            run(command(&[
                "kubeconfig",
                "--server",
                url,
                "--token-file",
                "t",
            ]))
            .await,
        ),
    ];
    for (what, ended) in refused {
        assert!(
            ended.code.is_some_and(|code| code != 0),
            "{what} is refused: {ended:?}"
        );
        assert!(!(ended.stderr.clone() + &ended.stdout).is_empty());
        assert_no_marker(what, &ended.stderr);
        assert_no_marker(what, &ended.stdout);
    }
}

#[tokio::test]
async fn help_does_not_show_the_environment() {
    let mut command = command(&["serve", "--help"]);
    command.env("KUBE_RETRY_PROXY_UPSTREAM", "https://MARKER");
    let ended = run(command).await;
    assert!(ended.stdout.contains("KUBE_RETRY_PROXY_UPSTREAM"));
    assert_no_marker("the help", &ended.stdout);
}
