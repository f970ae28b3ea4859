//! Which connections requests take, and what a client cannot claim.

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Front, lines, request};
use crate::cases::every;
use crate::support::{Client, Protocol, eventually, tls_stream_as};

const PODS: &str = "/api/v1/namespaces/team/pods";
const WATCH: &str = "/api/v1/pods?watch=1";

cases!(only_identified_requests_see_the_certificate, pairs);
async fn only_identified_requests_see_the_certificate(down: Protocol, up: Protocol) {
    let front = Front::start(up).await;
    let (jane, joe) = (
        front.clients.client("jane", &["g"]),
        front.clients.client("joe", &[]),
    );
    let mut clients = vec![
        (front.client(Some(&jane), down).await, Some("jane"), &[][..]),
        (front.client(Some(&joe), down).await, Some("joe"), &[][..]),
        (
            front.client(None, down).await,
            None,
            &[("authorization", "Bearer t")][..],
        ),
        (front.client(None, down).await, None, &[][..]),
    ];
    for round in 0..5 {
        for (client, _, headers) in &mut clients {
            for (method, path) in [
                (Method::GET, "/api"),
                (Method::POST, PODS),
                (Method::GET, WATCH),
            ] {
                let asked = request(client, method, path, headers);
                let answer = client.ask(asked).await;
                assert!(answer.status.is_success(), "{round}: {}", answer.text());
            }
        }
    }
    eventually("a probe", || {
        front
            .apiserver
            .all()
            .iter()
            .any(|seen| seen.path == "/readyz")
    })
    .await;
    let all = front.apiserver.all();
    for seen in &all {
        assert_eq!(seen.shown.is_some(), seen.user().is_some(), "{seen:?}");
        assert_eq!(
            seen.headers.contains_key("authorization"),
            seen.user().is_none() && { seen.headers.get("authorization").is_some() }
        );
        let same = all
            .iter()
            .filter(|other| other.connection == seen.connection);
        for other in same {
            assert_eq!(
                other.shown.is_some(),
                seen.shown.is_some(),
                "one connection, one kind"
            );
        }
    }
    for (_, user, _) in &clients {
        let theirs = all
            .iter()
            .filter(|seen| seen.path != "/readyz" && seen.user().as_deref() == *user);
        assert_eq!(theirs.count(), if user.is_some() { 15 } else { 30 });
    }
    front.stop().await;
}

cases!(what_a_client_says_about_itself_never_passes, protocols);
async fn what_a_client_says_about_itself_never_passes(down: Protocol) {
    const FORGED: [(&str, &str); 7] = [
        ("x-remote-user", "root"),
        ("x_remote_user", "root"),
        ("x-remote-group", "system:masters"),
        ("x-remote_group", "system:masters"),
        ("x-remote-uid", "0"),
        ("x-remote-extra-scopes", "all"),
        (
            "x-remote-extra-authentication.kubernetes.io%2fcredential-id",
            "X509SHA256=00",
        ),
    ];
    let front = Front::start(Protocol::Http2).await;
    let jane = front.clients.client("jane", &["g"]);
    for (method, path) in [
        (Method::GET, "/api"),
        (Method::POST, PODS),
        (Method::GET, WATCH),
    ] {
        let expected = lines(&[("x-remote-user", "jane"), ("x-remote-group", "g")], &jane);
        for (credentials, expected) in [(Some(&jane), expected), (None, Vec::new())] {
            let mut client = front.client(credentials, down).await;
            let asked = request(&client, method.clone(), path, &FORGED);
            assert!(client.ask(asked).await.status.is_success());
            let seen = front.apiserver.last(path.split('?').next().unwrap());
            assert_eq!(seen.identity(), expected);
            assert_eq!(seen.shown.is_some(), credentials.is_some());
        }
    }
    front.stop().await;
}

cases!(creates_of_a_user_with_many_groups_pass, pairs);
async fn creates_of_a_user_with_many_groups_pass(down: Protocol, up: Protocol) {
    let front = Front::start(up).await;
    let groups: Vec<_> = (0..1000).map(|number| format!("group-{number}")).collect();
    let groups: Vec<_> = groups.iter().map(String::as_str).collect();
    let mut client = front
        .client(Some(&front.clients.client("jane", &groups)), down)
        .await;
    let asked = request(&client, Method::POST, PODS, &[]);
    assert_eq!(client.ask(asked).await.status, StatusCode::CREATED);
    let seen = front.apiserver.last(PODS);
    assert_eq!(seen.headers.get_all("x-remote-group").iter().count(), 1000);
    front.stop().await;
}

#[tokio::test]
async fn somebody_with_a_certificate_may_ask_to_act_as_somebody_else() {
    let front = Front::start(Protocol::Http2).await;
    let jane = front.clients.client("jane", &[]);
    let asked = [("impersonate-user", "joe"), ("impersonate-group", "g")];
    assert_eq!(
        front.get(Some(&jane), "/api", &asked).await.status,
        StatusCode::OK
    );
    let seen = front.apiserver.last("/api");
    assert_eq!(seen.identity(), lines(&[("x-remote-user", "jane")], &jane));
    assert_eq!(seen.headers["impersonate-user"], "joe");
    let answer = front.get(None, "/api", &asked).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    front.stop().await;
}

#[tokio::test]
async fn an_upgrade_is_identified_too() {
    const TOKEN: &str = "Authorization: Bearer t\r\n";
    let front = Front::start(Protocol::Http2).await;
    let jane = front.clients.client("jane", &[]);
    let requests = [
        "POST /api/v1/namespaces/team/pods/a/exec HTTP/1.1\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n",
        "GET /api/v1/namespaces/team/pods/a/exec HTTP/1.1\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.dA\r\n",
    ];
    every(requests, async |upgrade| {
        for (credentials, token) in [(Some(&jane), ""), (Some(&jane), TOKEN), (None, TOKEN)] {
            let tls = front.tls(credentials, Protocol::Http1);
            let mut stream = tls_stream_as(front.proxy.address, tls).await.unwrap();
            let head = format!("{upgrade}Host: a\r\nConnection: Upgrade\r\n{token}\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 101") && answer.ends_with("tunnel"),
                "{answer}"
            );
            let seen = front.apiserver.last("/api/v1/namespaces/team/pods/a/exec");
            assert_eq!(seen.user().as_deref(), credentials.map(|_| "jane"));
            assert_eq!(seen.shown.is_some(), credentials.is_some());
            assert_eq!(
                seen.headers.contains_key("authorization"),
                credentials.is_none()
            );
        }
    })
    .await;
    front.stop().await;
}

cases!(a_resumed_session_is_the_same_user, protocols);
async fn a_resumed_session_is_the_same_user(down: Protocol) {
    let front = Front::start(Protocol::Http2).await;
    let tls = front.tls(Some(&front.clients.client("jane", &[])), down);
    let mut kinds = Vec::new();
    for _ in 0..3 {
        let stream = tls_stream_as(front.proxy.address, tls.clone())
            .await
            .unwrap();
        let kind = stream.get_ref().1.handshake_kind().unwrap();
        let mut client = Client::over(stream, front.proxy.address, "unused", down).await;
        let asked = request(&client, Method::GET, "/api", &[]);
        assert_eq!(client.ask(asked).await.status, StatusCode::OK);
        assert_eq!(front.apiserver.last("/api").user().as_deref(), Some("jane"));
        kinds.push(kind);
    }
    assert!(kinds.contains(&rustls::HandshakeKind::Resumed), "{kinds:?}");
    front.stop().await;
}
