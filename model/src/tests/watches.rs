//! Tests of watches, logs, tunnels and echo.

use super::*;

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
async fn a_streaming_list_ends_with_a_bookmark() {
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
async fn echo_describes_the_request() {
    let plane = start(one(Settings::quick())).await;
    let mut client = first(&plane, Version::HTTP_11).await;
    let answer = client
        .send(Method::PUT, "/echo/x?y=z", "hello")
        .await
        .unwrap();
    let echo = json(&answer);
    assert_eq!(
        (
            echo["method"].as_str(),
            echo["query"].as_str(),
            echo["body"].as_str()
        ),
        (Some("PUT"), Some("y=z"), Some("hello"))
    );
    assert_eq!(answer.headers.get_all("warning").iter().count(), 2);
    plane.shutdown().await;
}
