//! Tests of the control plane over real sockets.

mod faults;
mod watches;

use std::collections::HashSet;
use std::time::Duration;

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
    // The answer is a protobuf pod. Posting it with another name creates a second pod from
    // protobuf.
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
async fn errors_match_those_of_the_apiserver() {
    let plane = start(one(Settings::quick())).await;
    plane.create_namespace("closing").unwrap();
    plane.terminate_namespace("closing").unwrap();
    let mut client = first(&plane, Version::HTTP_11).await;
    let big = small_pod("big").replace("10m", "500");
    let other_namespace =
        small_pod("x").replace(r#""name":"x""#, r#""name":"x","namespace":"other""#);
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
            other_namespace,
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
            // The server has not read the rest of the body, so this connection is unusable.
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
async fn the_quota_is_charged_for_a_duplicate_but_not_for_a_dry_run() {
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
async fn generates_different_names() {
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
async fn the_race_causes_conflicts_and_the_quota_counts_every_charge() {
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
