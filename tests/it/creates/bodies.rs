//! Bodies up to the limit are buffered and replayed. Larger bodies are streamed and never replayed.

use bytes::Bytes;
use http::header::TRAILER;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use model_control_plane::Fault;

use super::{
    attempts, brisk, buffered, conflict, ended, held, lasting_conflict, not_replayed, patient, rig,
};
use crate::support::{
    Answer, Client, Posted, Protocol, Rig, assert_relayed, captured, eventually, pod, speaking,
};

const MIB: usize = 1 << 20;

/// A pod of exactly this many bytes.
fn pod_of(name: &str, bytes: usize) -> String {
    let small = pod(name);
    let (head, tail) = small.split_once("\"metadata\":{").unwrap();
    let padded =
        |pad: &str| format!("{head}\"metadata\":{{\"annotations\":{{\"pad\":\"{pad}\"}},{tail}");
    let padding = bytes - padded("").len();
    padded(&"x".repeat(padding))
}

/// A create with this body, with or without a declared length.
fn create(client: &Client, body: impl Into<Bytes>, announced: bool) -> Request<Posted> {
    let body = body.into();
    let (head, _) = client.create_request("").into_parts();
    Request::from_parts(
        head,
        if announced {
            Posted::Full(body.into())
        } else {
            Posted::frames(body)
        },
    )
}

cases!(
    bodies_up_to_three_mebibytes_are_replayed,
    protocols,
    [
        a_byte_less(3 * MIB - 1, false),
        exactly_and_announced(3 * MIB, true),
        exactly_and_unannounced(3 * MIB, false),
    ]
);
async fn bodies_up_to_three_mebibytes_are_replayed(
    protocol: Protocol,
    bytes: usize,
    announced: bool,
) {
    let rig = rig(brisk).await;
    let mut client = rig.client(protocol).await;
    rig.faults().next_create(conflict());
    let body = pod_of("a", bytes);
    let answer = Answer::of(client.send(create(&client, body, announced)).await).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert!(
        answer.body.len() > bytes,
        "the pod as it was posted, and the server's fields"
    );
    let sizes: Vec<_> = rig
        .plane
        .journal()
        .creates()
        .iter()
        .map(|attempt| attempt.body)
        .collect();
    assert_eq!(sizes, [bytes, bytes]);
    eventually("the body is dropped", || buffered(&rig) == 0.0).await;
    assert_eq!(not_replayed(&rig, "body_too_large"), 0.0);
    rig.stop().await;
}

cases!(
    a_body_of_a_byte_more_is_the_apiservers_to_refuse,
    protocols,
    [announced(true), unannounced(false)]
);
async fn a_body_of_a_byte_more_is_the_apiservers_to_refuse(protocol: Protocol, announced: bool) {
    let rig = rig(brisk).await;
    let mut client = rig.client(protocol).await;
    let answer = Answer::of(
        client
            .send(create(&client, pod_of("a", 3 * MIB + 1), announced))
            .await,
    )
    .await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{answer:?}");
    assert!(
        !answer.json()["message"]
            .as_str()
            .unwrap()
            .starts_with("kube-retry-proxy"),
        "{answer:?}"
    );
    assert_eq!(
        (
            attempts(&rig),
            not_replayed(&rig, "body_too_large"),
            ended(&rig, "refused")
        ),
        (1, 1.0, 1.0)
    );
    rig.stop().await;
}

cases!(
    a_body_beyond_max_body_is_streamed_whole_and_not_replayed,
    protocols,
    [announced(true), unannounced(false)]
);
async fn a_body_beyond_max_body_is_streamed_whole_and_not_replayed(
    protocol: Protocol,
    announced: bool,
) {
    const LIMIT: usize = 100_000;
    let rig = rig(|config| {
        brisk(config);
        config.creates.max_body = LIMIT as u64;
    })
    .await;
    let mut client = rig.client(protocol).await;
    let stored = Answer::of(
        client
            .send(create(&client, pod_of("stored", LIMIT + 1), announced))
            .await,
    )
    .await;
    assert_eq!(stored.status, StatusCode::CREATED, "{stored:?}");
    assert_eq!(rig.plane.journal().creates()[0].body, LIMIT + 1);

    rig.faults().next_create(conflict());
    let refused = Answer::of(
        client
            .send(create(&client, pod_of("refused", LIMIT + 1), announced))
            .await,
    )
    .await;
    assert_relayed(&refused, &captured("quota_conflict_409"), "a larger body");
    assert_eq!(
        (attempts(&rig), not_replayed(&rig, "body_too_large")),
        (2, 2.0)
    );

    rig.faults().next_create(conflict());
    let replayed = Answer::of(
        client
            .send(create(&client, pod_of("replayed", LIMIT), announced))
            .await,
    )
    .await;
    assert_eq!((replayed.status, attempts(&rig)), (StatusCode::CREATED, 4));
    rig.stop().await;
}

cases!(
    a_body_beyond_max_body_reaches_the_apiserver_before_it_has_ended,
    protocols
);
async fn a_body_beyond_max_body_reaches_the_apiserver_before_it_has_ended(protocol: Protocol) {
    let rig = rig(|config| config.creates.max_body = 100_000).await;
    let mut client = rig.client(protocol).await;
    let (body, gate) = Posted::gated(pod_of("a", 200_000));
    let (head, _) = client.create_request("").into_parts();
    let answer = tokio::spawn(async move {
        Answer::of(client.send(Request::from_parts(head, body)).await).await
    });
    eventually("the apiserver sees the create", || attempts(&rig) == 1).await;
    gate.send(()).unwrap();
    assert_eq!(answer.await.unwrap().status, StatusCode::CREATED);
    assert_eq!(rig.plane.journal().creates()[0].body, 200_000);
    rig.stop().await;
}

cases!(
    beyond_the_memory_of_all_bodies_creates_are_streamed_and_not_replayed,
    protocols,
    [announced(true), unannounced(false)]
);
async fn beyond_the_memory_of_all_bodies_creates_are_streamed_and_not_replayed(
    protocol: Protocol,
    announced: bool,
) {
    const BODY: usize = 10_000;
    let rig = rig(|config| {
        patient(config);
        config.creates.max_body = BODY as u64;
        // With a head beside the body.
        config.creates.max_buffered = BODY as u64 + 1000;
    })
    .await;
    rig.faults().next_create(Fault::Answer(lasting_conflict()));
    let mut first = rig.client(protocol).await;
    let request = create(&first, pod_of("first", BODY), announced);
    let first = tokio::spawn(async move { first.send(request).await });
    held(&rig, 1).await;
    assert!(
        (BODY as f64..BODY as f64 + 1000.0).contains(&buffered(&rig)),
        "{}",
        buffered(&rig)
    );

    let mut client = rig.client(protocol).await;
    rig.faults().next_create(conflict());
    let refused = Answer::of(
        client
            .send(create(&client, pod_of("second", 1000), announced))
            .await,
    )
    .await;
    assert_relayed(&refused, &captured("quota_conflict_409"), "no memory");
    assert_eq!(
        (attempts(&rig), not_replayed(&rig, "buffer_full")),
        (2, 1.0)
    );
    assert_eq!(rig.plane.journal().creates()[1].body, 1000);

    first.abort();
    held(&rig, 0).await;
    eventually("the memory is given back", || buffered(&rig) == 0.0).await;
    rig.faults().next_create(conflict());
    let replayed = Answer::of(
        client
            .send(create(&client, pod_of("third", BODY), announced))
            .await,
    )
    .await;
    assert_eq!(
        (replayed.status, not_replayed(&rig, "buffer_full")),
        (StatusCode::CREATED, 1.0)
    );
    rig.stop().await;
}

cases!(
    trailers_of_a_create_reach_the_apiserver_with_every_attempt,
    pairs
);
async fn trailers_of_a_create_reach_the_apiserver_with_every_attempt(down: Protocol, up: Protocol) {
    let rig = Rig::with(speaking(up), brisk).await;
    rig.faults().next_create(conflict());
    let mut client = rig.client(down).await;
    let trailers = HeaderMap::from_iter([(
        "x-checksum".parse().unwrap(),
        HeaderValue::from_static("c0ffee"),
    )]);
    let (mut head, _) = client.create_request("").into_parts();
    head.headers
        .insert(TRAILER, HeaderValue::from_static("X-Checksum"));
    let request = Request::from_parts(head, Posted::with_trailers(pod("a"), trailers.clone()));
    assert_eq!(client.send(request).await.status(), StatusCode::CREATED);
    let seen: Vec<_> = rig
        .plane
        .journal()
        .creates()
        .into_iter()
        .map(|attempt| attempt.trailers)
        .collect();
    assert_eq!(seen, [Some(trailers.clone()), Some(trailers)]);
    rig.stop().await;
}
