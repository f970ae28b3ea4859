//! What an operator sees of a live proxy: the admin port, and every family of metrics moving as it
//! should.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use http_body_util::Full;
use kube_retry_proxy::app::App;
use kube_retry_proxy::config::{Budget, Config, Mode, Rate};
use model_control_plane::{Canned, Fault};
use serde_json::Value;

use crate::support::executable::run_with_input;
use crate::support::{
    Answer, Client, NAMESPACE, Protocol, Rig, admin, conflict, eventually, pod, rig, sample,
    servers_up,
};

/// The value of a series of ours, whose name stands here without the prefix.
fn of(proxy: &App, series: &str) -> f64 {
    sample(proxy, &format!("kube_retry_proxy_{series}"))
}

async fn json(proxy: &App, path: &str) -> Value {
    admin::get(proxy.admin_address, path).await.json()
}

/// Every series of a scrape, without values.
async fn series(proxy: &App) -> Vec<String> {
    let scrape = admin::get(proxy.admin_address, "/metrics").await.text();
    scrape
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
        .collect()
}

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
    for page in pages.iter().map(String::as_str) {
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
    }
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

    // The client leaves.
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

#[tokio::test]
async fn a_replayed_create_moves_every_family_of_the_loop() {
    let rig = Rig::new().await;
    rig.plane.faults(0).unwrap().next_create(conflict());
    let mut client = rig.client(Protocol::Http1).await;
    assert_eq!(client.create("a").await.status, StatusCode::CREATED);
    assert_eq!(client.create("b").await.status, StatusCode::CREATED);
    assert_eq!(
        client.get("/api/v1/namespaces/team/pods").await.status,
        StatusCode::OK
    );
    eventually("the answers' ends", || {
        of(&rig.proxy, "upstream_streams{lane=\"create\"}") == 0.0
    })
    .await;
    for (series, expected) in [
        ("requests_total{code=\"201\",route=\"create\"}", 2.0),
        ("requests_total{code=\"200\",route=\"call\"}", 1.0),
        ("request_duration_seconds_count{route=\"create\"}", 2.0),
        ("request_duration_seconds_count{route=\"call\"}", 1.0),
        ("overhead_seconds_count{route=\"create\"}", 2.0),
        ("overhead_seconds_count{route=\"call\"}", 1.0),
        ("attempts_total{class=\"quota_conflict\",code=\"409\"}", 1.0),
        ("attempts_total{class=\"success\",code=\"201\"}", 2.0),
        (
            "conflicts_total{class=\"quota_conflict\",namespace=\"team\"}",
            1.0,
        ),
        ("replays_total{class=\"quota_conflict\"}", 1.0),
        (
            "outcomes_total{namespace=\"team\",outcome=\"created\"}",
            1.0,
        ),
        (
            "outcomes_total{namespace=\"team\",outcome=\"created_after_replay\"}",
            1.0,
        ),
        ("hold_seconds_count", 1.0),
        ("held", 0.0),
        ("buffered_bytes", 0.0),
        ("downstream_connections", 1.0),
        ("mode{mode=\"enforce\"}", 1.0),
        ("mode{mode=\"off\"}", 0.0),
        ("upstream_connections{lane=\"create\"}", 1.0),
        (
            "upstream_connect_duration_seconds_count{lane=\"create\",result=\"success\"}",
            1.0,
        ),
        (
            concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"),
            1.0,
        ),
    ] {
        assert_eq!(of(&rig.proxy, series), expected, "{series}");
    }
    drop(client);
    eventually("no connection", || {
        of(&rig.proxy, "downstream_connections") == 0.0
    })
    .await;
    rig.stop().await;
}

#[tokio::test]
async fn what_is_not_replayed_is_counted_with_its_reason() {
    async fn refused(edit: impl FnOnce(&mut Config), faults: usize, reason: &str, outcome: &str) {
        let rig = rig(edit).await;
        for _ in 0..faults {
            rig.plane.faults(0).unwrap().next_create(conflict());
        }
        let mut client = rig.client(Protocol::Http1).await;
        assert_eq!(
            client.create("a").await.status,
            StatusCode::CONFLICT,
            "{reason}"
        );
        assert_eq!(
            of(
                &rig.proxy,
                &format!("not_replayed_total{{reason=\"{reason}\"}}")
            ),
            1.0,
            "{reason}"
        );
        let total: f64 = ["team", "_other"]
            .map(|namespace| {
                of(
                    &rig.proxy,
                    &format!("outcomes_total{{namespace=\"{namespace}\",outcome=\"{outcome}\"}}"),
                )
            })
            .iter()
            .sum();
        assert_eq!(total, 1.0, "{reason}: {outcome}");
        assert_eq!(rig.plane.journal().creates().len(), faults, "{reason}");
        rig.stop().await;
    }
    refused(|config| config.mode = Mode::Off, 1, "mode_off", "refused").await;
    refused(
        |config| config.mode = Mode::Observe,
        1,
        "mode_observe",
        "observed",
    )
    .await;
    refused(
        |config| config.replay.max_attempts = 2,
        2,
        "attempts",
        "gave_up",
    )
    .await;
    refused(
        |config| config.replay.max_hold = Duration::ZERO,
        1,
        "hold",
        "gave_up",
    )
    .await;
    refused(
        |config| config.creates.max_body = 16,
        1,
        "body_too_large",
        "refused",
    )
    .await;
    refused(
        |config| config.creates.max_buffered = 16,
        1,
        "buffer_full",
        "refused",
    )
    .await;
    let spent = |config: &mut Config| {
        config.replay.budget.quota_conflict = Budget {
            ratio: 0.0,
            per_second: 0,
        }
    };
    refused(spent, 1, "budget", "gave_up").await;
}

#[tokio::test]
async fn a_spent_budget_is_counted_with_its_scope() {
    let rig = rig(|config| {
        config.replay.budget.quota_conflict = Budget {
            ratio: 0.0,
            per_second: 0,
        }
    })
    .await;
    rig.plane.faults(0).unwrap().next_create(conflict());
    assert_eq!(
        rig.client(Protocol::Http1).await.create("a").await.status,
        StatusCode::CONFLICT
    );
    assert_eq!(
        of(
            &rig.proxy,
            "budget_exhausted_total{kind=\"quota_conflict\",scope=\"namespace\"}"
        ),
        1.0
    );
    assert_eq!(
        of(
            &rig.proxy,
            "budget_exhausted_total{kind=\"other\",scope=\"namespace\"}"
        ),
        0.0
    );
    rig.stop().await;
}

#[tokio::test]
async fn the_rate_limit_counts_who_waited_and_who_was_refused() {
    let limited = |qps, max_wait| {
        rig(move |config| {
            config.rate_limit.namespace = Some(Rate { qps, burst: 1 });
            config.rate_limit.max_wait = max_wait;
        })
    };
    let rig = limited(1.0, Duration::from_secs(10)).await;
    let (mut first, mut second) = (
        rig.client(Protocol::Http1).await,
        rig.client(Protocol::Http1).await,
    );
    // Together, so that the second comes within the second in which the burst is used.
    let (first, second) = tokio::join!(first.create("a"), second.create("b"));
    assert_eq!(
        (first.status, second.status),
        (StatusCode::CREATED, StatusCode::CREATED)
    );
    assert_eq!(
        of(&rig.proxy, "rate_limit_wait_seconds_count"),
        1.0,
        "the first had its burst"
    );
    assert_eq!(of(&rig.proxy, "hold_seconds_count"), 0.0, "that is no hold");
    rig.stop().await;

    let rig = limited(0.001, Duration::ZERO).await;
    let mut client = rig.client(Protocol::Http1).await;
    assert_eq!(client.create("a").await.status, StatusCode::CREATED);
    let refused = client.create("b").await;
    assert_eq!(
        (refused.status, &refused.json()["reason"]),
        (StatusCode::TOO_MANY_REQUESTS, &"TooManyRequests".into())
    );
    assert_eq!(
        of(&rig.proxy, "rate_limit_rejected_total{scope=\"namespace\"}"),
        1.0
    );
    assert_eq!(
        of(&rig.proxy, "rate_limit_rejected_total{scope=\"global\"}"),
        0.0
    );
    assert_eq!(
        of(
            &rig.proxy,
            "outcomes_total{namespace=\"team\",outcome=\"rate_limited\"}"
        ),
        1.0
    );
    assert_eq!(rig.plane.journal().creates().len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn open_streams_are_counted_until_they_end() {
    let rig = Rig::new().await;
    let mut client = rig.client(Protocol::Http2).await;
    let watch = client
        .send(client.request(Method::GET, "/api/v1/namespaces/team/pods?watch=true", ""))
        .await;
    assert_eq!(of(&rig.proxy, "streams{kind=\"stream\"}"), 1.0);
    assert_eq!(of(&rig.proxy, "upstream_streams{lane=\"stream\"}"), 1.0);
    assert_eq!(
        of(&rig.proxy, "requests_total{code=\"200\",route=\"stream\"}"),
        1.0
    );
    drop(watch);
    eventually("the watch is over", || {
        of(&rig.proxy, "streams{kind=\"stream\"}") == 0.0
    })
    .await;
    eventually("its place is free", || {
        of(&rig.proxy, "upstream_streams{lane=\"stream\"}") == 0.0
    })
    .await;

    let mut client = rig.client(Protocol::Http1).await;
    let exec = client.send(exec_request(&client)).await;
    assert_eq!(exec.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(of(&rig.proxy, "streams{kind=\"upgrade\"}"), 1.0);
    assert_eq!(
        of(&rig.proxy, "requests_total{code=\"101\",route=\"upgrade\"}"),
        1.0
    );
    drop((exec, client));
    eventually("the tunnel is over", || {
        of(&rig.proxy, "streams{kind=\"upgrade\"}") == 0.0
    })
    .await;
    rig.stop().await;
}

#[tokio::test]
async fn a_lost_answer_is_counted_and_never_replayed() {
    let rig = Rig::new().await;
    rig.plane.faults(0).unwrap().next_create(Fault::LoseAnswer);
    assert_eq!(
        rig.client(Protocol::Http1).await.create("a").await.status,
        StatusCode::GATEWAY_TIMEOUT
    );
    assert_eq!(of(&rig.proxy, "upstream_errors_total{kind=\"lost\"}"), 1.0);
    assert_eq!(
        of(&rig.proxy, "attempts_total{class=\"lost\",code=\"none\"}"),
        1.0
    );
    let attempt = &json(&rig.proxy, "/debug/decisions").await[0]["attempts"][0];
    assert_eq!(
        (&attempt["error"], attempt.get("code")),
        (&"lost".into(), None)
    );
    assert_eq!(
        rig.plane.pods(NAMESPACE).len(),
        1,
        "it was stored all the same"
    );
    rig.stop().await;
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_counted() {
    let rig = rig(|config| config.replay.max_attempts = 2).await;
    rig.client(Protocol::Http1).await.get("/version").await;
    assert_eq!(of(&rig.proxy, "upstream_connections{lane=\"call\"}"), 1.0);
    rig.plane.faults(0).unwrap().set_down(true);
    let answer = rig.client(Protocol::Http1).await.create("a").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        of(&rig.proxy, "upstream_errors_total{kind=\"connect\"}"),
        2.0
    );
    assert!(
        of(
            &rig.proxy,
            "upstream_connect_duration_seconds_count{lane=\"create\",result=\"failure\"}"
        ) >= 2.0
    );
    assert_eq!(
        of(&rig.proxy, "replays_total{class=\"connect_failed\"}"),
        1.0
    );
    assert_eq!(
        of(
            &rig.proxy,
            "outcomes_total{namespace=\"_other\",outcome=\"no_answer\"}"
        ),
        1.0
    );
    eventually("disconnected", || {
        of(&rig.proxy, "upstream_connections{lane=\"call\"}") == 0.0
    })
    .await;
    rig.stop().await;
}

#[tokio::test]
async fn namespaces_beyond_the_first_hundred_share_a_label() {
    let rig = Rig::new().await;
    let mut client = rig.client(Protocol::Http2).await;
    for number in 0..150 {
        let namespace = format!("tenant-{number}");
        rig.plane.create_namespace(&namespace).unwrap();
        assert_eq!(
            create_in(&mut client, &namespace, "a").await.status,
            StatusCode::CREATED
        );
    }
    let created = "kube_retry_proxy_outcomes_total{namespace=\"";
    let series = series(&rig.proxy).await;
    let labels: BTreeSet<_> = series
        .iter()
        .filter_map(|series| series.strip_prefix(created)?.split('"').next())
        .collect();
    assert_eq!(labels.len(), 101, "{labels:?}");
    assert!(
        labels.contains("_other") && labels.contains("tenant-99") && !labels.contains("tenant-100"),
        "{labels:?}"
    );
    assert_eq!(
        of(
            &rig.proxy,
            "outcomes_total{namespace=\"_other\",outcome=\"created\"}"
        ),
        50.0
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_stranger_cannot_use_the_labels_up() {
    let rig = Rig::new().await;
    let mut stranger = Client::connect(
        rig.proxy.address,
        rig.proxy.ca_pem.as_deref().unwrap(),
        "no-such-token",
        Protocol::Http2,
    )
    .await;
    for number in 0..3 {
        assert_eq!(
            create_in(&mut stranger, &format!("guess-{number}"), "a")
                .await
                .status,
            StatusCode::UNAUTHORIZED
        );
    }
    assert!(
        !series(&rig.proxy)
            .await
            .iter()
            .any(|series| series.contains("guess-"))
    );
    assert_eq!(
        of(
            &rig.proxy,
            "outcomes_total{namespace=\"_other\",outcome=\"refused\"}"
        ),
        3.0
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_live_scrape_is_what_prometheus_expects() {
    let rig = Rig::new().await;
    rig.plane.faults(0).unwrap().next_create(conflict());
    let mut client = rig.client(Protocol::Http1).await;
    assert_eq!(
        client.create("a-pod-name").await.status,
        StatusCode::CREATED
    );
    assert_eq!(
        client
            .get("/api/v1/namespaces/team/pods/a-pod-name")
            .await
            .status,
        StatusCode::OK
    );
    let scrape = admin::get(rig.proxy.admin_address, "/metrics").await;
    assert!(
        scrape.headers[CONTENT_TYPE]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4"),
        "{:?}",
        scrape.headers
    );
    assert!(
        !scrape.text().contains("a-pod-name") && !scrape.text().contains(rig.plane.token()),
        "{}",
        scrape.text()
    );
    let expiry = of(&rig.proxy, "certificate_expiry_timestamp_seconds");
    assert!(
        expiry > sample(&rig.proxy, "process_start_time_seconds") + 300.0 * 86_400.0,
        "a year from now: {expiry}"
    );

    match Command::new("promtool").arg("--version").output() {
        Ok(_) => {
            let mut promtool = Command::new("promtool");
            promtool.args(["check", "metrics"]);
            let checked = run_with_input(promtool, &scrape.body).await;
            assert_eq!(
                (checked.code, checked.stderr.as_str()),
                (Some(0), ""),
                "{}",
                checked.stdout
            );
        }
        Err(error) if std::env::var("CI").is_ok_and(|value| value == "true") => {
            panic!("promtool is missing: {error}")
        }
        Err(error) => eprintln!("promtool is missing, the scrape is not checked by it: {error}"),
    }
    rig.stop().await;
}

async fn create_in(client: &mut Client, namespace: &str, name: &str) -> Answer {
    let mut request = client.request(
        Method::POST,
        &format!("/api/v1/namespaces/{namespace}/pods"),
        pod(name),
    );
    request
        .headers_mut()
        .insert(CONTENT_TYPE, "application/json".parse().unwrap());
    Answer::of(client.send(request).await).await
}

/// As kubectl begins an exec over SPDY.
fn exec_request(client: &Client) -> http::Request<Full<Bytes>> {
    let mut request = client.request(
        Method::POST,
        "/api/v1/namespaces/team/pods/a/exec?command=true&stdout=true",
        "",
    );
    request
        .headers_mut()
        .insert("connection", "Upgrade".parse().unwrap());
    request
        .headers_mut()
        .insert("upgrade", "SPDY/3.1".parse().unwrap());
    request
}
