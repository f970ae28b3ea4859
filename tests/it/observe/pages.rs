//! The pages of the admin port.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::Full;
use model_control_plane::{Canned, Fault};

use super::{json, of, rig};
use crate::cases::every;
use crate::support::{
    Answer, NAMESPACE, Protocol, Rig, admin, conflict, eventually, pod, servers_up,
};

#[tokio::test]
async fn the_probes_answer_as_the_apiservers_do() {
    let rig = Rig::new().await;
    let at = rig.proxy.admin_address;
    assert_eq!(admin::get(at, "/livez").await.text(), "ok");
    let ready = admin::get_until(at, "/readyz", |answer| answer.status == StatusCode::OK).await;
    assert_eq!(ready.text(), "ok");
    let verbose = admin::get(at, "/readyz?verbose").await.text();
    assert_eq!(
        verbose,
        "[+]ping ok\n[+]serving ok\n[+]upstream ok\nreadyz check passed\n"
    );

    rig.plane.faults(0).unwrap().set_down(true);
    let unready = admin::get_until(at, "/readyz", |answer| {
        answer.status == StatusCode::INTERNAL_SERVER_ERROR
    })
    .await;
    assert!(
        unready.text().contains("[-]upstream failed: ")
            && unready.text().ends_with("readyz check failed\n"),
        "{}",
        unready.text()
    );
    assert_eq!(servers_up(&rig.proxy), 0);
    rig.plane.faults(0).unwrap().set_down(false);
    admin::get_until(at, "/readyz", |answer| answer.status == StatusCode::OK).await;
    assert_eq!(servers_up(&rig.proxy), 1);
    rig.stop().await;
}

#[tokio::test]
async fn the_admin_port_has_a_list_of_its_pages_and_is_read_only() {
    let rig = Rig::new().await;
    let at = rig.proxy.admin_address;
    let index = admin::get(at, "/").await;
    assert_eq!(index.status, StatusCode::OK);
    let listed = index.text();
    let pages: Vec<_> = listed
        .split("href=\"/")
        .skip(1)
        .map(|rest| format!("/{}", rest.split('"').next().unwrap()))
        .collect();
    assert!(pages.len() > 6, "{pages:?}");
    every(pages.iter().map(String::as_str), async |page| {
        let status = admin::get(at, page).await.status;
        assert!(
            status == StatusCode::OK || page.starts_with("/readyz"),
            "{page}: {status}"
        );
        let head = admin::request(at, Method::HEAD, page).await;
        assert!(
            head.body.is_empty() && (head.status == status || page.starts_with("/readyz")),
            "{page}: {head:?}"
        );
        let post = admin::request(at, Method::POST, page).await;
        assert_eq!(
            (post.status, &post.headers["allow"]),
            (
                StatusCode::METHOD_NOT_ALLOWED,
                &"GET, HEAD".parse().unwrap()
            ),
            "{page}"
        );
    })
    .await;
    assert_eq!(
        admin::get(at, "/nowhere").await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        admin::get(at, "/api/v1/pods").await.status,
        StatusCode::NOT_FOUND,
        "the apiserver's paths are not here"
    );
    assert_eq!(
        admin::get(at, "/debug/decisions?limit=x").await.status,
        StatusCode::BAD_REQUEST
    );
    rig.stop().await;
}

#[tokio::test]
async fn the_admin_paths_belong_to_the_apiserver_on_the_proxys_own_port() {
    let rig = Rig::new().await;
    let answer = rig.client(Protocol::Http2).await.get("/configz").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(
        rig.plane.journal().attempts().last().unwrap().path,
        "/configz"
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_replayed_create_can_be_explained_from_its_decision() {
    let rig = Rig::new().await;
    let faults = rig.plane.faults(0).unwrap();
    faults.next_create(conflict());
    faults.next_create(Fault::Answer(Canned::throttled(0)));
    let mut client = rig.client(Protocol::Http1).await;
    assert_eq!(client.create("replayed").await.status, StatusCode::CREATED);
    let generated = pod("").replace("\"name\":\"\"", "\"generateName\":\"made-\"");
    let request = client
        .create_request("")
        .map(|_| Full::<Bytes>::from(generated));
    assert_eq!(
        Answer::of(client.send(request).await).await.status,
        StatusCode::CREATED
    );
    assert_eq!(client.create("replayed").await.status, StatusCode::CONFLICT);

    let decisions = json(&rig.proxy, "/debug/decisions").await;
    let names: Vec<_> = decisions
        .as_array()
        .unwrap()
        .iter()
        .map(|each| each["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["replayed", "made-*", "replayed"],
        "the newest first"
    );

    let first = &decisions[2];
    assert_eq!(
        (&first["namespace"], &first["resource"]),
        (&NAMESPACE.into(), &"pods".into())
    );
    let time = first["time"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.contains('T'), "{time}");
    let attempts = first["attempts"].as_array().unwrap();
    let told: Vec<_> = attempts
        .iter()
        .map(|each| {
            (
                each["code"].as_u64().unwrap(),
                each["class"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (409, "quota_conflict"),
            (429, "throttled"),
            (201, "success")
        ]
    );
    assert!(
        attempts[0]["delayMs"].is_u64()
            && attempts[1]["delayMs"].is_u64()
            && attempts[2].get("delayMs").is_none(),
        "{first}"
    );
    assert!(
        attempts.iter().all(|each| each["durationMs"].is_u64()),
        "{first}"
    );
    assert_eq!(first["outcome"], "created_after_replay");
    let held = attempts[0]["delayMs"].as_u64().unwrap() + attempts[1]["delayMs"].as_u64().unwrap();
    assert!(first["heldMs"].as_u64().unwrap() >= held, "{first}");

    let refused = &decisions[0];
    assert_eq!(
        (
            &refused["outcome"],
            refused["attempts"].as_array().unwrap().len()
        ),
        (&"refused".into(), 1)
    );
    assert!(
        refused["why"].as_str().unwrap().contains("exists"),
        "{refused}"
    );

    assert_eq!(
        json(&rig.proxy, "/debug/decisions?limit=1")
            .await
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        json(&rig.proxy, "/debug/decisions?namespace=elsewhere").await,
        serde_json::json!([])
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_create_is_shown_while_it_is_held_and_no_longer() {
    let rig = rig(|config| config.replay.max_hold = Duration::from_secs(3600)).await;
    rig.plane
        .faults(0)
        .unwrap()
        .next_create(Fault::Answer(Canned::throttled(1000)));
    let mut client = rig.client(Protocol::Http1).await;
    let create = tokio::spawn(async move { client.create("waiting").await });
    admin::get_until(rig.proxy.admin_address, "/debug/held", |answer| {
        answer.text().contains("waiting")
    })
    .await;
    let held = json(&rig.proxy, "/debug/held").await;
    let entry = &held[0];
    assert_eq!(
        (&entry["namespace"], &entry["name"], &entry["resource"]),
        (&NAMESPACE.into(), &"waiting".into(), &"pods".into())
    );
    assert_eq!(
        (&entry["attempts"], &entry["class"]),
        (&1.into(), &"throttled".into())
    );
    assert!(
        entry["heldForMs"].is_u64() && entry["nextAttemptInMs"].as_u64().unwrap() > 900_000,
        "{entry}"
    );
    assert_eq!(
        json(&rig.proxy, "/debug/decisions").await,
        serde_json::json!([]),
        "it is not decided"
    );
    assert_eq!(of(&rig.proxy, "held"), 1.0);
    let (body, buffered) = (
        pod("waiting").len() as f64,
        of(&rig.proxy, "buffered_bytes"),
    );
    assert!(
        (body..body + 1000.0).contains(&buffered),
        "head and body: {buffered}"
    );

    // The client disconnects.
    create.abort();
    eventually("nothing is held", || of(&rig.proxy, "held") == 0.0).await;
    eventually("nothing is buffered", || {
        of(&rig.proxy, "buffered_bytes") == 0.0
    })
    .await;
    assert_eq!(json(&rig.proxy, "/debug/held").await, serde_json::json!([]));
    assert_eq!(
        json(&rig.proxy, "/debug/decisions").await[0]["outcome"],
        "client_gone"
    );
    assert_eq!(
        of(
            &rig.proxy,
            "outcomes_total{namespace=\"_other\",outcome=\"client_gone\"}"
        ),
        1.0
    );
    assert_eq!(of(&rig.proxy, "hold_seconds_count"), 1.0);
    rig.stop().await;
}
