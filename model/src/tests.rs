//! The control plane on sockets.

use std::collections::HashSet;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::client::{Answer, Client, ClientError, Endpoint, small_pod};
use super::wire::name_of_protobuf;
use super::*;

const PODS: &str = "/api/v1/namespaces/ns/pods";

async fn start(settings: Settings) -> ControlPlane {
    let plane = ControlPlane::start(settings).await.unwrap();
    plane.create_namespace("ns").unwrap();
    plane
        .create_quota("ns", "q", &[("pods", "1000"), ("requests.cpu", "100")])
        .unwrap();
    plane
}

fn one(settings: Settings) -> Settings {
    Settings {
        apiservers: 1,
        ..settings
    }
}

async fn client(plane: &ControlPlane, url: &str, version: Version) -> Client {
    Endpoint::new(url, plane.ca_pem(), plane.token(), version)
        .unwrap()
        .connect()
        .await
        .unwrap()
}

async fn first(plane: &ControlPlane, version: Version) -> Client {
    client(plane, &plane.urls()[0], version).await
}

async fn get(client: &mut Client, path: &str) -> Answer {
    client.send(Method::GET, path, "").await.unwrap()
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

fn accept(media_type: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static(media_type))])
}

fn faults(plane: &ControlPlane) -> &Faults {
    plane.faults(0).unwrap()
}

#[tokio::test]
async fn creates_lists_and_deletes_over_both_protocols() {
    let plane = start(one(Settings::quick())).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut client = first(&plane, version).await;
        let created = client.create_pod("ns", "a").await.unwrap();
        assert_eq!(created.status, StatusCode::CREATED);
        assert!(
            created.headers.contains_key("audit-id")
                && created
                    .headers
                    .contains_key("x-kubernetes-pf-flowschema-uid")
        );
        assert_eq!(json(&created)["metadata"]["name"], "a");
        let again = client.create_pod("ns", "a").await.unwrap();
        let status = Status::decode(&again.body).unwrap();
        assert_eq!(
            (status.code, status.reason.as_str(), status.message.as_str()),
            (409, "AlreadyExists", "pods \"a\" already exists")
        );
        assert_eq!(
            json(&get(&mut client, PODS).await)["items"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        let deleted = client
            .send(Method::DELETE, &format!("{PODS}/a"), "")
            .await
            .unwrap();
        assert_eq!(deleted.status, StatusCode::OK);
        assert_eq!(
            get(&mut client, &format!("{PODS}/a")).await.status,
            StatusCode::NOT_FOUND
        );
    }
    let journal = plane.journal().creates();
    assert_eq!(
        journal
            .iter()
            .map(|attempt| attempt.version)
            .collect::<HashSet<_>>()
            .len(),
        2
    );
    assert!(
        journal
            .iter()
            .all(|attempt| attempt.delivered && attempt.quota == QuotaOutcome::Charged)
    );
    plane.shutdown().await;
}

#[tokio::test]
async fn speaks_protobuf_when_asked() {
    let plane = start(one(Settings::quick())).await;
    let mut client = first(&plane, Version::HTTP_2).await;
    let headers = accept("application/vnd.kubernetes.protobuf,application/json");
    let created = client
        .send_with(Method::POST, PODS, headers.clone(), small_pod("a"))
        .await
        .unwrap();
    assert_eq!(
        created.headers["content-type"],
        Encoding::Protobuf.media_type()
    );
    assert_eq!(name_of_protobuf(&created.body).as_deref(), Some("a"));
    // The answer is a pod: posting it under another path creates it again, now from protobuf.
    let mut post = headers;
    post.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/vnd.kubernetes.protobuf"),
    );
    let again = client
        .send_with(Method::POST, PODS, post, created.body)
        .await
        .unwrap();
    assert_eq!(Status::decode(&again.body).unwrap().reason, "AlreadyExists");
    assert!(again.body.starts_with(envelope::MAGIC));
    plane.shutdown().await;
}

#[tokio::test]
async fn refuses_as_the_apiserver_does() {
    let plane = start(one(Settings::quick())).await;
    plane.create_namespace("closing").unwrap();
    plane.terminate_namespace("closing").unwrap();
    let mut client = first(&plane, Version::HTTP_11).await;
    let big = small_pod("big").replace("10m", "500");
    let elsewhere = small_pod("x").replace(r#""name":"x""#, r#""name":"x","namespace":"other""#);
    let table = [
        (
            PODS,
            big,
            403,
            "pods \"big\" is forbidden: exceeded quota: q, requested: requests.cpu=500, used: requests.cpu=0, limited: requests.cpu=100",
        ),
        (
            "/api/v1/namespaces/nope/pods",
            small_pod("x"),
            404,
            "namespaces \"nope\" not found",
        ),
        (
            "/api/v1/namespaces/closing/pods",
            small_pod("x"),
            403,
            "pods \"x\" is forbidden: unable to create new content in namespace closing because it is being terminated",
        ),
        (
            PODS,
            elsewhere,
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (PODS, "x".repeat((3 << 20) + 1), 413, "limit is 3145728"),
        (
            "/api/v1/nodes",
            small_pod("x"),
            404,
            "the server could not find the requested resource",
        ),
    ];
    for (path, body, code, message) in table {
        let answer = match client.send(Method::POST, path, body).await {
            Ok(answer) => answer,
            Err(error) => panic!("{path}: {error:?}"),
        };
        let status = Status::decode(&answer.body).unwrap();
        assert_eq!((status.code, status.message.as_str()), (code, message));
        if code == 413 {
            // The rest of the body was not read.
            client = first(&plane, Version::HTTP_11).await;
        }
    }
    let stranger = HeaderMap::from_iter([(
        http::header::AUTHORIZATION,
        HeaderValue::from_static("Bearer stranger"),
    )]);
    let answer = client
        .send_with(Method::GET, PODS, stranger, "")
        .await
        .unwrap();
    assert_eq!(
        Status::decode(&answer.body).unwrap(),
        Status::new(401, "Unauthorized", "Unauthorized")
    );
    plane.shutdown().await;
}

#[tokio::test]
async fn a_duplicate_is_charged_and_a_dry_run_is_not() {
    let plane = start(one(Settings::quick())).await;
    let mut client = first(&plane, Version::HTTP_11).await;
    for _ in 0..3 {
        client.create_pod("ns", "a").await.unwrap();
    }
    let dry = client
        .send(Method::POST, &format!("{PODS}?dryRun=All"), small_pod("b"))
        .await
        .unwrap();
    assert_eq!(dry.status, StatusCode::CREATED);
    assert_eq!(plane.pods("ns").len(), 1);
    assert_eq!(plane.quota("ns", "q").unwrap().used.whole("pods"), 3);
    plane.shutdown().await;
}

#[tokio::test]
async fn generates_names_that_differ() {
    let plane = start(one(Settings::quick())).await;
    let mut client = first(&plane, Version::HTTP_11).await;
    let body = small_pod("").replace(r#""name":"""#, r#""generateName":"work-""#);
    for _ in 0..2 {
        assert_eq!(
            client
                .send(Method::POST, PODS, body.clone())
                .await
                .unwrap()
                .status,
            StatusCode::CREATED
        );
    }
    let names: HashSet<_> = plane
        .pods("ns")
        .iter()
        .map(|pod| pod.name().to_owned())
        .collect();
    assert_eq!(names.len(), 2);
    assert!(
        names
            .iter()
            .all(|name| name.starts_with("work-") && name.len() == 10),
        "{names:?}"
    );
    assert_eq!(plane.journal().creates_of("work-").len(), 2);
    plane.shutdown().await;
}

#[tokio::test]
async fn the_race_answers_conflicts_and_never_loses_count() {
    let settings = Settings {
        handler_time: Duration::ZERO,
        ..Settings::default()
    };
    let plane = start(settings).await;
    let urls = plane.urls();
    let mut running = Vec::new();
    for worker in 0..12 {
        let mut client = client(&plane, &urls[worker % 3], Version::HTTP_11).await;
        running.push(tokio::spawn(async move {
            let mut codes = Vec::new();
            for pod in 0..20 {
                codes.push(
                    client
                        .create_pod("ns", &format!("p-{worker}-{pod}"))
                        .await
                        .unwrap()
                        .status,
                );
            }
            codes
        }));
    }
    let mut created = 0;
    let mut conflicts = 0;
    for worker in running {
        for code in worker.await.unwrap() {
            match code {
                StatusCode::CREATED => created += 1,
                StatusCode::CONFLICT => conflicts += 1,
                other => panic!("{other}"),
            }
        }
    }
    assert_eq!(plane.pods("ns").len(), created);
    assert_eq!(
        plane.quota("ns", "q").unwrap().used.whole("pods"),
        i64::try_from(created).unwrap()
    );
    assert!(conflicts > 0, "three apiservers race");
    let judged = plane.journal().creates();
    assert!(
        judged
            .iter()
            .all(|attempt| attempt.stored.is_some() == (attempt.quota == QuotaOutcome::Charged))
    );
    plane.shutdown().await;
}

#[tokio::test]
async fn watches_deliver_every_change_in_both_encodings() {
    let plane = start(one(Settings::quick())).await;
    let from = plane.store().revision();
    let mut client = first(&plane, Version::HTTP_11).await;
    client.create_pod("ns", "a").await.unwrap();
    client
        .send(Method::DELETE, &format!("{PODS}/a"), "")
        .await
        .unwrap();
    let path = format!("{PODS}?watch=true&timeoutSeconds=1&resourceVersion={from}");
    let frames = get(&mut client, &path).await.body;
    let lines: Vec<Value> = frames
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(
        lines
            .iter()
            .map(|line| line["type"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["ADDED", "DELETED"]
    );
    assert_eq!(lines[1]["object"]["metadata"]["name"], "a");
    let answer = client
        .send_with(
            Method::GET,
            &path,
            accept("application/vnd.kubernetes.protobuf;stream=watch"),
            "",
        )
        .await
        .unwrap();
    assert_eq!(
        answer.headers["content-type"],
        "application/vnd.kubernetes.protobuf;stream=watch"
    );
    let mut events = answer.body;
    let (event, object) = envelope::next_watch_event(&mut events).unwrap();
    assert_eq!(
        (event.as_str(), name_of_protobuf(&object).as_deref()),
        ("ADDED", Some("a"))
    );
    assert_eq!(
        envelope::next_watch_event(&mut events).unwrap().0,
        "DELETED"
    );
    plane.shutdown().await;
}

#[tokio::test]
async fn a_streaming_list_ends_with_its_bookmark() {
    let plane = start(one(Settings::quick())).await;
    let mut client = first(&plane, Version::HTTP_2).await;
    client.create_pod("ns", "a").await.unwrap();
    let path = format!(
        "{PODS}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1"
    );
    let frames = String::from_utf8(get(&mut client, &path).await.body.to_vec()).unwrap();
    let lines: Vec<&str> = frames.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].contains("ADDED") && lines[1].contains("k8s.io/initial-events-end"),
        "{frames}"
    );
    plane.shutdown().await;
}

#[tokio::test]
async fn scripted_answers_and_lost_ones() {
    let plane = start(one(Settings::quick())).await;
    let mut client = first(&plane, Version::HTTP_2).await;
    faults(&plane).next_create(Fault::Answer(Canned::throttled(1)));
    let throttled = client.create_pod("ns", "a").await.unwrap();
    assert_eq!(
        (
            throttled.status.as_u16(),
            throttled.headers["retry-after"].to_str().unwrap()
        ),
        (429, "1")
    );
    for (fault, stored) in [
        (Fault::Reset, false),
        (Fault::Refuse, false),
        (Fault::LoseAnswer, true),
        (Fault::Truncate, true),
    ] {
        let shown = format!("{fault:?}");
        let name = shown.to_lowercase();
        faults(&plane).next_create(fault);
        let error = client.create_pod("ns", &name).await.unwrap_err();
        assert!(
            matches!(error, ClientError::Broken(_) | ClientError::Unfinished(_)),
            "{shown}: {error}"
        );
        let attempt = plane.journal().creates().pop().unwrap();
        assert_eq!(
            (attempt.stored.is_some(), attempt.delivered),
            (stored, false),
            "{shown}"
        );
    }
    assert_eq!(
        client.create_pod("ns", "after").await.unwrap().status,
        StatusCode::CREATED,
        "the connection is still good"
    );
    plane.shutdown().await;
}

#[tokio::test]
async fn a_timeout_leaves_it_open_whether_the_pod_is_stored() {
    let plane = start(one(Settings::quick())).await;
    let mut client = first(&plane, Version::HTTP_2).await;
    faults(&plane).next_create(Fault::Hold);
    let answer = client
        .send(
            Method::POST,
            &format!("{PODS}?timeout=50ms"),
            small_pod("a"),
        )
        .await
        .unwrap();
    let status = Status::decode(&answer.body).unwrap();
    assert_eq!(
        (status.code, status.message.as_str()),
        (
            504,
            "Timeout: request did not complete within requested timeout 50ms"
        )
    );
    assert!(plane.pods("ns").is_empty());
    let mut changes = plane.store().subscribe();
    changes.mark_unchanged();
    faults(&plane).release();
    changes
        .wait_for(|_| plane.store().pod("ns", "a").is_some())
        .await
        .unwrap();
    plane.shutdown().await;
}

#[tokio::test]
async fn a_server_goes_away_and_comes_back_on_its_port() {
    let plane = start(one(Settings::quick())).await;
    let mut h2 = first(&plane, Version::HTTP_2).await;
    let mut h1 = first(&plane, Version::HTTP_11).await;
    faults(&plane).next_request(Fault::GoAway);
    assert_eq!(
        h2.create_pod("ns", "a").await.unwrap().status,
        StatusCode::CREATED,
        "what is under way is finished"
    );
    while h2.create_pod("ns", "b").await.is_ok() {}
    faults(&plane).set_down(true);
    assert!(h1.create_pod("ns", "c").await.is_err());
    let endpoint = Endpoint::new(
        &plane.urls()[0],
        plane.ca_pem(),
        plane.token(),
        Version::HTTP_11,
    )
    .unwrap();
    while endpoint.connect().await.is_ok() {}
    faults(&plane).set_down(false);
    let mut again = loop {
        if let Ok(client) = endpoint.connect().await {
            break client;
        }
    };
    assert_eq!(get(&mut again, PODS).await.status, StatusCode::OK);
    plane.shutdown().await;
}

#[tokio::test]
async fn the_balancer_spreads_connections_over_the_servers() {
    let plane = start(Settings::quick()).await;
    for _ in 0..6 {
        let mut client = client(&plane, &plane.balanced_url(), Version::HTTP_11).await;
        get(&mut client, PODS).await;
        get(&mut client, PODS).await;
    }
    let attempts = plane.journal().attempts();
    for server in 0..3 {
        let of: Vec<_> = attempts
            .iter()
            .filter(|attempt| attempt.apiserver == server)
            .collect();
        let connections: HashSet<_> = of.iter().map(|attempt| attempt.connection).collect();
        assert_eq!((of.len(), connections.len()), (4, 2));
    }
    plane.shutdown().await;
}

#[tokio::test]
async fn echoes_over_an_upgraded_connection_until_the_input_ends() {
    let plane = start(one(Settings::quick())).await;
    let endpoint = Endpoint::new(
        &plane.urls()[0],
        plane.ca_pem(),
        plane.token(),
        Version::HTTP_11,
    )
    .unwrap();
    let mut stream = endpoint.connect_raw().await.unwrap();
    let request = format!(
        "POST {PODS}/a/exec?command=sh HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nping",
        plane.token()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(b"-pong").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 101") && answer.contains("Upgrade: SPDY/3.1"),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\nping-pong"), "{answer}");
    plane.shutdown().await;
}

#[tokio::test]
async fn follows_a_log_line_by_line() {
    let plane = start(one(Settings::quick())).await;
    let mut client = first(&plane, Version::HTTP_2).await;
    client.create_pod("ns", "a").await.unwrap();
    plane.logs().push("ns", "a", "one");
    assert_eq!(
        get(&mut client, &format!("{PODS}/a/log")).await.body,
        Bytes::from("one\n")
    );
    let following = tokio::spawn(async move {
        get(&mut client, &format!("{PODS}/a/log?follow=true"))
            .await
            .body
    });
    plane.logs().push("ns", "a", "two");
    plane.logs().close("ns", "a");
    assert_eq!(following.await.unwrap(), Bytes::from("one\ntwo\n"));
    plane.shutdown().await;
}

#[tokio::test]
async fn tells_what_arrived() {
    let plane = start(one(Settings::quick())).await;
    let mut client = first(&plane, Version::HTTP_11).await;
    let answer = client
        .send(Method::PUT, "/echo/x?y=z", "hello")
        .await
        .unwrap();
    let told = json(&answer);
    assert_eq!(
        (
            told["method"].as_str(),
            told["query"].as_str(),
            told["body"].as_str()
        ),
        (Some("PUT"), Some("y=z"), Some("hello"))
    );
    assert_eq!(answer.headers.get_all("warning").iter().count(), 2);
    plane.shutdown().await;
}
