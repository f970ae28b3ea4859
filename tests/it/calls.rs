//! Short requests have the same result through the proxy as without it, with both protocols on both
//! sides.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, TRAILER};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use model_control_plane::{Canned, Fault, wire};
use serde_json::json;

use crate::cases::every;
use crate::support::raw::Upstream;
use crate::support::streaming::Fed;
use crate::support::{Answer, Client, NAMESPACE, Protocol, Rig, pod, proxy_to, soon};

const PODS: &str = "/api/v1/namespaces/team/pods";

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

const CAPTURED: [&[u8]; 5] = [
    include_bytes!("../samples/invalid_422.http"),
    include_bytes!("../samples/rbac_forbidden_403.http"),
    include_bytes!("../samples/exceeded_quota_403_protobuf.http"),
    include_bytes!("../samples/too_many_requests_429_get.http"),
    include_bytes!("../samples/not_acceptable_406.http"),
];

cases!(
    reads_are_the_same_with_and_without_the_proxy,
    pairs,
    [get(Method::GET), head(Method::HEAD)],
    [
        json("application/json"),
        protobuf(PROTOBUF),
        anything("*/*")
    ]
);
async fn reads_are_the_same_with_and_without_the_proxy(
    down: Protocol,
    up: Protocol,
    method: Method,
    accept: &str,
) {
    const PATHS: [&str; 9] = [
        "/version",
        "/livez",
        "/api/v1",
        "/api/v1/namespaces",
        "/api/v1/namespaces/team/pods",
        "/api/v1/namespaces/team/pods?labelSelector=app%3Dnone&limit=500",
        "/api/v1/namespaces/team/pods/a",
        "/api/v1/namespaces/team/pods/missing",
        "/apis/nobody.example/v1/things",
    ];
    let rig = Rig::speaking(up).await;
    store_pods(&rig, &["a", "b"], "");
    let (mut direct, mut proxied) = (rig.direct(up).await, rig.client(down).await);
    every(PATHS, async |path| {
        let ask = |client: &Client| accepting(client.request(method.clone(), path, ""), accept);
        let expected = direct.ask(ask(&direct)).await;
        let answer = proxied.ask(ask(&proxied)).await;
        assert_same(&answer, &expected);
    })
    .await;
    rig.stop().await;
}

cases!(a_list_of_several_megabytes_arrives_byte_for_byte, pairs);
async fn a_list_of_several_megabytes_arrives_byte_for_byte(down: Protocol, up: Protocol) {
    let names: Vec<_> = (0..128).map(|n| format!("pod-{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let rig = Rig::speaking(up).await;
    store_pods(&rig, &names, &"x".repeat(36 << 10));
    let expected = rig.direct(up).await.get(PODS).await;
    assert!(expected.body.len() > 4 << 20);
    let answer = rig.client(down).await.get(PODS).await;
    assert!(
        answer.body == expected.body,
        "{} of {} bytes",
        answer.body.len(),
        expected.body.len()
    );
    rig.stop().await;
}

cases!(writes_of_what_is_no_create_arrive_once_and_unchanged, pairs);
async fn writes_of_what_is_no_create_arrive_once_and_unchanged(down: Protocol, up: Protocol) {
    let rig = Rig::speaking(up).await;
    store_pods(&rig, &["a"], "");
    let mut client = rig.client(down).await;

    let deleted = client
        .ask(client.request(Method::DELETE, &format!("{PODS}/a"), ""))
        .await;
    assert_eq!(deleted.status, StatusCode::OK);
    assert_eq!(rig.plane.pods(NAMESPACE).len(), 0);

    let namespace =
        json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "other"}}).to_string();
    let created = client
        .ask(client.request(Method::POST, "/api/v1/namespaces", namespace.clone()))
        .await;
    assert_eq!(
        (created.status, &created.json()["metadata"]["name"]),
        (StatusCode::CREATED, &json!("other"))
    );

    let patched = client
        .ask(client.request(Method::PATCH, &format!("{PODS}/a"), "{}"))
        .await;
    assert_eq!(
        patched.status,
        StatusCode::METHOD_NOT_ALLOWED,
        "the model knows no patches"
    );

    let seen: Vec<_> = rig
        .plane
        .journal()
        .attempts()
        .into_iter()
        .map(|attempt| (attempt.method, attempt.body))
        .collect();
    assert_eq!(
        seen,
        [
            (Method::DELETE, 0),
            (Method::POST, namespace.len()),
            (Method::PATCH, 2)
        ]
    );
    rig.stop().await;
}

cases!(
    bodies_of_unknown_length_arrive_whole_with_their_trailers,
    pairs
);
async fn bodies_of_unknown_length_arrive_whole_with_their_trailers(down: Protocol, up: Protocol) {
    let rig = Rig::speaking(up).await;
    let mut client = rig.client(down).await;
    let chunks: Vec<_> = (0..48)
        .map(|n| Bytes::from(vec![b'a' + n % 26; 32 << 10]))
        .collect();
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("x-checksum"),
        HeaderValue::from_static("c0ffee"),
    )]);
    let body = Fed::whole(chunks.clone(), Some(trailers)).await;
    let mut request = client.request(Method::PUT, "/echo", "").map(|_| body);
    request
        .headers_mut()
        .insert(TRAILER, HeaderValue::from_static("x-checksum"));
    let echo = client.ask(request).await.json();
    let sent = String::from_utf8(chunks.concat()).unwrap();
    assert!(echo["body"] == json!(sent), "the body differs");
    assert_eq!(echo["trailers"], json!({"x-checksum": ["c0ffee"]}));
    rig.stop().await;
}

cases!(trailers_of_answers_arrive, pairs);
async fn trailers_of_answers_arrive(down: Protocol, up: Protocol) {
    let rig = Rig::speaking(up).await;
    let mut client = rig.client(down).await;
    let mut request = client.request(Method::POST, "/trailers", "answered");
    request
        .headers_mut()
        .insert(TE, HeaderValue::from_static("trailers"));
    let answer = client.ask(request).await;
    assert_eq!(answer.body, "answered");
    let trailers = answer.trailers.unwrap_or_default();
    assert_eq!(trailers.get("x-checksum").unwrap(), "c0ffee");
    assert_eq!(
        trailers.get_all("x-part").iter().collect::<Vec<_>>(),
        ["1", "2"]
    );
    rig.stop().await;
}

cases!(
    the_upstream_reads_a_body_while_it_is_still_being_sent,
    protocols
);
async fn the_upstream_reads_a_body_while_it_is_still_being_sent(protocol: Protocol) {
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |_| {}).await;
    let mut client = Client::connect(
        proxy.address,
        proxy.ca_pem.as_deref().unwrap(),
        "t",
        protocol,
    )
    .await;
    let (feeder, body) = Fed::new();
    let request = client.request(Method::PUT, "/echo", "").map(|_| body);
    let answer = tokio::spawn(async move { client.ask(request).await });
    let (head, mut connection) = upstream.request().await;
    assert_eq!(head.all("transfer-encoding"), ["chunked"]);
    for piece in ["one", "two"] {
        feeder.chunk(piece).await;
        assert_eq!(
            connection.exactly(8).await,
            format!("3\r\n{piece}\r\n").as_bytes()
        );
    }
    drop(feeder);
    assert_eq!(connection.exactly(5).await, b"0\r\n\r\n");
    connection.write("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(soon(answer).await.unwrap().status, StatusCode::NO_CONTENT);
    proxy.stop().await;
}

cases!(
    a_client_that_expects_100_continue_is_told_to_go_on,
    protocols,
    [call("/echo"), create(PODS)]
);
async fn a_client_that_expects_100_continue_is_told_to_go_on(up: Protocol, path: &str) {
    let rig = Rig::speaking(up).await;
    let mut raw = rig.raw().await;
    let body = pod("a");
    let (token, length) = (rig.plane.token(), body.len());
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nExpect: 100-continue\r\n"
    );
    raw.write(format!(
        "{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ))
    .await;
    assert_eq!(raw.head().await.status(), StatusCode::CONTINUE);
    raw.write(&body).await;
    let (answer, _) = raw.answer().await;
    assert!(answer.status().is_success(), "{answer:?}");
    rig.stop().await;
}

cases!(an_empty_body_stays_empty, pairs);
async fn an_empty_body_stays_empty(down: Protocol, up: Protocol) {
    let rig = Rig::speaking(up).await;
    let mut client = rig.client(down).await;
    every(
        [Method::GET, Method::DELETE, Method::POST, Method::PUT],
        async |method| {
            let echo = client
                .ask(client.request(method.clone(), "/echo", ""))
                .await
                .json();
            assert_eq!(echo["body"], "");
            assert_eq!(echo["headers"]["transfer-encoding"], json!(null));
            let length = &echo["headers"]["content-length"];
            assert!(length.is_null() || *length == json!(["0"]), "{length}");
        },
    )
    .await;
    rig.stop().await;
}

cases!(paths_and_queries_keep_every_byte, pairs);
async fn paths_and_queries_keep_every_byte(down: Protocol, up: Protocol) {
    const TARGETS: [&str; 6] = [
        "/echo/a%2Fb/%7e%7E//./../c;d=1,2:@!$&'()*+?q=%20+%2B&&=&a=b=c&a&%zz&labelSelector=app%3Din%28a%2Cb%29",
        "/echo?",
        "/echo/?%00%ff&x=/?:@",
        "/echo/%C3%BC/%e2%82%ac?name=%C3%BC&limit=500&continue=eyJ2IjoibWV0YSJ9",
        "/echo/%25252F?a=%2525",
        "/echo//",
    ];
    let rig = Rig::speaking(up).await;
    let mut client = rig.client(down).await;
    every(TARGETS, async |target| {
        let echo = client.get(target).await.json();
        let query = echo["query"]
            .as_str()
            .map_or(String::new(), |query| format!("?{query}"));
        assert_eq!(format!("{}{query}", echo["path"].as_str().unwrap()), target);
    })
    .await;
    rig.stop().await;
}

cases!(an_error_of_the_apiserver_is_relayed_byte_for_byte, pairs);
async fn an_error_of_the_apiserver_is_relayed_byte_for_byte(down: Protocol, up: Protocol) {
    let rig = Rig::speaking(up).await;
    let mut client = rig.client(down).await;
    every(
        [Method::GET, Method::DELETE, Method::PATCH, Method::PUT]
            .into_iter()
            .cycle()
            .zip(CAPTURED),
        async |(method, captured)| {
            let canned = Canned::captured(captured).unwrap();
            rig.plane
                .faults(0)
                .unwrap()
                .next_request(Fault::Answer(canned.clone()));
            let answer = client
                .ask(client.request(method.clone(), &format!("{PODS}/a"), ""))
                .await;
            assert_eq!(answer.status, canned.status);
            assert_eq!(answer.body, canned.body);
            let expected: Vec<_> = canned
                .headers
                .iter()
                .filter(|(name, _)| *name != "connection")
                .collect();
            let compared = ["date", "content-length", "transfer-encoding"];
            let relayed: Vec<_> = answer
                .headers
                .iter()
                .filter(|(name, _)| !compared.contains(&name.as_str()))
                .collect();
            assert_eq!(relayed, expected, "{method} {}", canned.status);
        },
    )
    .await;
    rig.stop().await;
}

/// Stores pods directly in the store, each with an annotation of this text.
fn store_pods(rig: &Rig, names: &[&str], annotation: &str) {
    for name in names {
        let body = json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": name, "namespace": NAMESPACE, "annotations": {"note": annotation}},
            "spec": {"containers": [{"name": "main", "image": "busybox"}]},
        });
        rig.plane
            .store()
            .create_pod(wire::parse_pod(&body.to_string().into()).unwrap())
            .unwrap();
    }
}

/// Adds a fixed `Audit-Id`. Otherwise the apiserver generates one.
fn accepting(mut request: Request<Full<Bytes>>, accept: &str) -> Request<Full<Bytes>> {
    request
        .headers_mut()
        .insert(ACCEPT, accept.parse().unwrap());
    request
        .headers_mut()
        .insert("audit-id", HeaderValue::from_static("6a1b"));
    request
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request
}

fn assert_same(answer: &Answer, expected: &Answer) {
    assert_eq!(answer.status, expected.status);
    assert_eq!(answer.body, expected.body);
    assert_eq!(answer.trailers, expected.trailers);
    // The second may change in between.
    let dateless = |answer: &Answer| {
        let mut lines: Vec<_> = answer
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        lines
            .iter_mut()
            .filter(|(name, _)| name == "date")
            .for_each(|(_, value)| *value = HeaderValue::from_static(""));
        lines
    };
    assert_eq!(dateless(answer), dateless(expected));
}
