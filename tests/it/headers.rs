//! Headers: hop-by-hop headers and forged identities are removed, and all others pass unchanged.

use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WARNING};
use http::{Method, StatusCode};
use model_control_plane::{Canned, Fault};
use serde_json::{Value, json};

use crate::support::raw::{Raw, Upstream};
use crate::support::{Client, Protocol, Rig, proxy_to, soon, speaking};

type Lines = Vec<(String, Vec<u8>)>;

cases!(the_headers_of_client_go_arrive_as_they_were_sent, pairs);
async fn the_headers_of_client_go_arrive_as_they_were_sent(down: Protocol, up: Protocol) {
    let lines = [
        (
            "accept",
            "application/vnd.kubernetes.protobuf,application/json",
        ),
        ("content-type", "application/vnd.kubernetes.protobuf"),
        (
            "user-agent",
            "workflow-controller/v3.6.4 (linux/amd64) kubernetes/$Format argo-workflows/v3.6.4",
        ),
        ("accept-encoding", "gzip"),
        ("kubectl-command", "kubectl get"),
        ("kubectl-session", "8a0e1c5e-6d4f-4f2d-a9cd-2f7d0ad1f6f3"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-for", "198.51.100.7, 10.0.0.1"),
    ];
    assert_arrive_unchanged(
        down,
        up,
        &lines.map(|(name, value)| (name.to_owned(), value.as_bytes().to_owned())),
    )
    .await;
}

cases!(
    any_other_headers_arrive_in_order_with_duplicates_and_odd_bytes,
    pairs
);
async fn any_other_headers_arrive_in_order_with_duplicates_and_odd_bytes(
    down: Protocol,
    up: Protocol,
) {
    let mut lines: Lines = Vec::new();
    let mut line = |name: &str, value: &[u8]| lines.push((name.to_owned(), value.to_owned()));
    line("impersonate-user", b"jane");
    line("Impersonate-Group", b"developers");
    line("impersonate-group", b"admins");
    line("IMPERSONATE-GROUP", b"system:authenticated");
    line("impersonate-extra-example.com%2fscopes", b"view");
    line("impersonate-uid", b"06f6ce97-e2c5-4ab8-7ba5-7654dd08d52b");
    line("x-latin", b"caf\xe9 \xff\x80");
    line("x-utf8", "žluťoučký kůň 🐎".as_bytes());
    line("x-empty", b"");
    line("x-tab", b"a\tb");
    line("x-list", b"one, two,,three ,");
    line("x-quoted", b"\"a, b\"; q=\"\\\"\"");
    line("x-forwarded-proto", b"https");
    line(
        "traceparent",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    line("cookie", b"a=b");
    line("x-remotely", b"is no identity");
    line("priority", b"u=1");
    for n in 0..60 {
        line(&format!("X-Long-{n}"), "v".repeat(5 << 10).as_bytes());
        line("x-repeated", n.to_string().as_bytes());
    }
    assert!(
        lines
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>()
            > 300 << 10
    );
    assert_arrive_unchanged(down, up, &lines).await;
}

/// Sends the headers directly and through the proxy, and compares what the apiserver received.
async fn assert_arrive_unchanged(down: Protocol, up: Protocol, lines: &[(String, Vec<u8>)]) {
    let rig = Rig::with(speaking(up), |config| config.serving.max_head = 1 << 20).await;
    let direct = seen(echo(&rig, Some(up), down, lines).await);
    let proxied = seen(echo(&rig, None, down, lines).await);
    assert_eq!(proxied.len(), direct.len());
    for (proxied, direct) in proxied.iter().zip(&direct) {
        assert_eq!(proxied, direct);
    }
    assert!(
        direct.len()
            >= lines
                .iter()
                .filter(|(name, _)| !name.contains("forwarded-for"))
                .count()
    );
    rig.stop().await;
}

/// The headers that `/echo` received, except those that each hop sets.
fn seen(echo: Value) -> Vec<String> {
    let lines = echo["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap().to_owned());
    lines
        .filter(|line| {
            !["host:", "x-forwarded-for:", "via:"]
                .iter()
                .any(|own| line.starts_with(own))
        })
        .collect()
}

/// Requests `/echo`, directly in the protocol `direct`, or else through the proxy.
async fn echo(
    rig: &Rig,
    direct: Option<Protocol>,
    down: Protocol,
    lines: &[(String, Vec<u8>)],
) -> Value {
    // Raw HTTP/1.1, because the library would write names in lower case.
    let protocol = if direct == Some(Protocol::Http1) {
        Protocol::Http1
    } else {
        down
    };
    match (protocol, direct) {
        (Protocol::Http1, None) => raw_echo(rig.raw().await, rig.plane.token(), lines).await,
        (Protocol::Http1, Some(_)) => {
            raw_echo(rig.raw_direct().await, rig.plane.token(), lines).await
        }
        (Protocol::Http2, _) => {
            let mut client = if direct.is_some() {
                rig.direct(Protocol::Http2).await
            } else {
                rig.client(Protocol::Http2).await
            };
            let mut request = client.request(Method::GET, "/echo", "");
            for (name, value) in lines {
                request.headers_mut().append(
                    HeaderName::try_from(name.as_str()).unwrap(),
                    HeaderValue::from_bytes(value).unwrap(),
                );
            }
            client.ask(request).await.json()
        }
    }
}

async fn raw_echo<S>(mut raw: Raw<S>, token: &str, lines: &[(String, Vec<u8>)]) -> Value
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut request =
        format!("GET /echo HTTP/1.1\r\nHost: client.example\r\nAuthorization: Bearer {token}\r\n")
            .into_bytes();
    for (name, value) in lines {
        request.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    request.extend_from_slice(b"\r\n");
    raw.write(request).await;
    let (head, body) = raw.answer().await;
    assert_eq!(head.status(), StatusCode::OK, "{head:?}");
    serde_json::from_slice(&body).unwrap()
}

cases!(
    what_concerns_the_clients_connection_only_stays_behind,
    protocols
);
async fn what_concerns_the_clients_connection_only_stays_behind(up: Protocol) {
    let lines = [
        ("Connection", "keep-alive, X-Named"),
        ("connection", "x-also-named , TE"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("Upgrade", "h2c"),
        ("X-Named", "1"),
        ("x-also-named", "2"),
        ("TE", "gzip;q=0.5, trailers"),
        ("x-kept", "3"),
    ];
    let rig = Rig::speaking(up).await;
    let mut raw = rig.raw().await;
    let head: String = lines
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let token = rig.plane.token();
    raw.write(format!("PUT /echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{head}Transfer-Encoding: chunked\r\n\r\n"))
        .await;
    raw.write("4\r\nbody\r\n0\r\n\r\n").await;
    let echo: Value = serde_json::from_slice(&raw.answer().await.1).unwrap();
    assert_eq!(echo["body"], "body");
    let mut names: Vec<_> = echo["headers"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    // The framing of the next hop, if it uses HTTP/1.1.
    names.retain(|name| !["host", "transfer-encoding"].contains(name));
    assert_eq!(
        names,
        ["authorization", "te", "via", "x-forwarded-for", "x-kept"]
    );
    assert_eq!(echo["headers"]["te"], json!(["trailers"]));
    rig.stop().await;
}

cases!(nobody_can_assert_an_identity_or_an_address, pairs);
async fn nobody_can_assert_an_identity_or_an_address(down: Protocol, up: Protocol) {
    let rig = Rig::speaking(up).await;
    let lines = [
        "X-Remote-User",
        "x-remote-group",
        "X-Remote-Group",
        "X-Remote-Extra-Scopes",
        "X-Remote-Uid",
        "X-Forwarded-For",
    ];
    let lines: Lines = lines
        .iter()
        .map(|name| ((*name).to_owned(), b"system:masters".to_vec()))
        .collect();
    let echo = echo(&rig, None, down, &lines).await;
    let remote: Vec<_> = echo["headers"]
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| name.starts_with("x-remote"))
        .collect();
    assert!(remote.is_empty(), "{remote:?} over {down:?} and {up:?}");
    assert_eq!(echo["headers"]["x-forwarded-for"], json!(["127.0.0.1"]));
    rig.stop().await;
}

cases!(a_request_names_the_upstream_as_its_server, pairs);
async fn a_request_names_the_upstream_as_its_server(down: Protocol, up: Protocol) {
    let rig = Rig::speaking(up).await;
    let upstream = rig.plane.addresses()[0].to_string();
    let echo = echo(&rig, None, down, &[]).await;
    assert_eq!(
        echo["version"],
        if up == Protocol::Http1 {
            "HTTP/1.1"
        } else {
            "HTTP/2.0"
        }
    );
    let named = if up == Protocol::Http1 {
        &echo["headers"]["host"][0]
    } else {
        &echo["authority"]
    };
    assert_eq!(*named, json!(upstream));
    let host = &echo["headers"]["host"];
    assert!(
        host.is_null() || *host == json!([upstream]),
        "{down:?} {up:?}: {host}"
    );
    rig.stop().await;
}

cases!(
    what_concerns_the_upstreams_connection_only_stays_behind,
    protocols
);
async fn what_concerns_the_upstreams_connection_only_stays_behind(down: Protocol) {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nConnection: X-Named, close\r\nX-Named: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\n\
                          Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nAudit-Id: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let (headers, body) = answered_by(ANSWER, down).await;
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.retain(|name| *name != "transfer-encoding");
    // No `Date`: adding one would mean that the proxy generated the answer.
    assert_eq!(names, ["audit-id"]);
    assert_eq!(body, "ok");
}

cases!(
    the_headers_of_an_answer_arrive_in_order_with_duplicates,
    protocols
);
async fn the_headers_of_an_answer_arrive_in_order_with_duplicates(down: Protocol) {
    let lines = [
        ("warning", "299 - \"first\""),
        ("audit-id", "0b4a"),
        ("warning", "299 - \"second, with a comma\""),
        ("retry-after", "7"),
        ("x-kubernetes-pf-flowschema-uid", "0448c78a"),
        ("x-kubernetes-pf-prioritylevel-uid", "47c80967"),
        ("cache-control", "no-cache, private"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("strict-transport-security", "max-age=31536000"),
        ("x-latin", "caf\u{e9}"),
        ("content-length", "2"),
    ];
    let head: String = lines
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let expected: HeaderMap = lines
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            )
        })
        .collect();
    let (headers, _) = answered_by(&format!("HTTP/1.1 200 OK\r\n{head}\r\nok"), down).await;
    assert_eq!(
        headers.iter().collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
}

cases!(warnings_and_retry_after_of_an_http2_answer_arrive, pairs);
async fn warnings_and_retry_after_of_an_http2_answer_arrive(down: Protocol, up: Protocol) {
    let rig = Rig::speaking(up).await;
    let warning = |text| HeaderValue::from_static(text);
    let canned = Canned::throttled(9)
        .with(WARNING, warning("299 - \"a\""))
        .with(WARNING, warning("299 - \"b\""));
    rig.plane
        .faults(0)
        .unwrap()
        .next_request(Fault::Answer(canned));
    let answer = rig.client(down).await.get("/version").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers[RETRY_AFTER], "9");
    let warnings: Vec<_> = answer.headers.get_all(WARNING).iter().collect();
    assert_eq!(warnings, ["299 - \"a\"", "299 - \"b\""]);
    rig.stop().await;
}

/// The answer that a client gets when the upstream writes these bytes.
async fn answered_by(answer: &str, down: Protocol) -> (HeaderMap, String) {
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |_| {}).await;
    let mut client =
        Client::connect(proxy.address, proxy.ca_pem.as_deref().unwrap(), "t", down).await;
    let asking = tokio::spawn(async move { client.get("/version").await });
    let (_, mut connection) = upstream.request().await;
    connection.write(answer).await;
    let answer = soon(asking).await.unwrap();
    proxy.stop().await;
    (
        answer.headers,
        String::from_utf8(answer.body.to_vec()).unwrap(),
    )
}
