//! The messages of a proxy that cannot start, or starts without an upstream.

use std::net::TcpListener;

use http::StatusCode;
use kube_retry_proxy::config::SelfSignedConfig;
use kube_retry_proxy::tls;

use crate::cases::every;
use crate::support::admin;
use crate::support::executable::{Place, Served, command, run, serve};
use crate::support::{Client, Protocol};

#[tokio::test]
async fn every_mistake_of_a_file_is_told_at_once() {
    let place = Place::new().await;
    let config = place.config(
        "mode: Maybe\nreplay: {maxAttempts: 0, baseDelai: 1s}\nrateLimit: {global: {qps: 5}}\n",
    );
    let ended = run(command(&["serve", "--config", &config])).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    for part in [
        "config.yaml",
        "mode: 'Maybe'",
        "replay.maxAttempts: 0",
        "replay.baseDelai: unknown field",
        "rateLimit.global.burst: missing",
    ] {
        assert!(
            ended.stderr.contains(part),
            "no {part:?} in {}",
            ended.stderr
        );
    }
}

#[tokio::test]
async fn a_number_of_threads_that_is_none_is_told() {
    let place = Place::new().await;
    let mut command = place.serve(&[]);
    command.env("TOKIO_WORKER_THREADS", "many");
    let ended = run(command).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(
        ended.stderr.contains(
            "TOKIO_WORKER_THREADS is \"many\": expected the number of threads that serve requests"
        ),
        "{}",
        ended.stderr
    );
}

cases!(
    wrong_usage_exits_with_two_and_names_the_flag,
    [
        no_port(&["serve", "--secure-port", "x"], "--secure-port"),
        a_certificate_without_its_key(&["serve", "--tls-cert-file", "a"], "--tls-private-key-file"),
        a_context_without_a_kubeconfig(&["serve", "--context", "a"], "--kubeconfig"),
        an_upstream_without_a_scheme(&["serve", "--upstream", "10.0.0.1:6443"], "--upstream"),
        an_unknown_level(&["serve", "--log-level", "loud"], "--log-level"),
        an_unknown_command(&["serv"], "serve"),
    ]
);
async fn wrong_usage_exits_with_two_and_names_the_flag(arguments: &[&str], part: &str) {
    let ended = run(command(arguments)).await;
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(2), ""),
        "{arguments:?}"
    );
    assert!(
        ended.stderr.contains(part),
        "{arguments:?}: {}",
        ended.stderr
    );
}

cases!(
    a_port_in_use_is_told_with_its_address,
    [serving("serving"), admin("admin")]
);
async fn a_port_in_use_is_told_with_its_address(port: &str) {
    let place = Place::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let directory = place.path("");
    let (url, ca) = (&place.plane.urls()[0], place.path("upstream-ca.crt"));
    let common = [
        "serve",
        "--upstream",
        url,
        "--upstream-ca-file",
        &ca,
        "--self-signed-dir",
        &directory,
        "--bind-address",
        "127.0.0.1",
    ];
    let (secure_port, admin_address) = match port {
        "serving" => (address.port(), "127.0.0.1:0".to_owned()),
        _ => (0, address.to_string()),
    };
    let flags = [
        &*format!("--secure-port={secure_port}"),
        &*format!("--admin-bind-address={admin_address}"),
    ];
    let ended = run(command(&[&common[..], &flags].concat())).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .contains(&format!("cannot listen on {address} ({port})")),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("in use"), "{}", ended.stderr);
    assert!(
        !std::path::Path::new(&place.path("kubeconfig")).exists(),
        "a kubeconfig says that the proxy is there"
    );
}

#[tokio::test]
async fn an_authority_that_cannot_be_read_is_told_with_its_path() {
    let place = Place::new().await;
    let (missing, empty) = (
        place.path("missing.crt"),
        place.write("empty.crt", "nothing\n"),
    );
    every(
        [(&missing, "No such file"), (&empty, "holds no")],
        async |(path, part)| {
            let ended = run(place.serve_trusting(path, &[])).await;
            assert_eq!(ended.code, Some(1));
            assert!(
                ended.stderr.contains(path.as_str()) && ended.stderr.contains(part),
                "{}",
                ended.stderr
            );
        },
    )
    .await;
    let ended = run(serve(&["--upstream", "https://127.0.0.1:1"])).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("no CA verifies https://127.0.0.1:1")
            && ended.stderr.contains("--upstream-ca-file"),
        "{}",
        ended.stderr
    );
    let ended = run(serve(&[])).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("no upstream: give --upstream"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn an_upstream_that_is_down_at_the_start_makes_it_unready_until_it_comes_up() {
    let place = Place::new().await;
    let faults = place.plane.faults(0).unwrap();
    faults.set_down(true);
    let served = place.served(&[]).await;
    let unready = admin::get_until(served.admin, "/readyz?verbose", |answer| {
        answer.text().contains("refused")
    })
    .await;
    assert_eq!(unready.status, StatusCode::INTERNAL_SERVER_ERROR);
    let address = place.plane.addresses()[0].to_string();
    assert!(
        unready.text().contains("[+]serving ok") && unready.text().contains("[-]upstream failed"),
        "{}",
        unready.text()
    );
    assert!(
        unready.text().contains(&address),
        "the reason names the address: {}",
        unready.text()
    );
    assert_eq!(
        admin::get(served.admin, "/livez").await.status,
        StatusCode::OK,
        "a restart would not help"
    );
    let answer = place.client(&served).await.get("/api").await;
    assert_eq!(
        (answer.status, &answer.json()["reason"]),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            &"ServiceUnavailable".into()
        )
    );

    faults.set_down(false);
    let ready = admin::get_until(served.admin, "/readyz?verbose", |answer| {
        answer.status == StatusCode::OK
    })
    .await;
    assert!(ready.text().contains("[+]upstream ok"), "{}", ready.text());
    assert_eq!(
        place.client(&served).await.create("a").await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_server_that_the_authority_did_not_sign_is_never_used() {
    let place = Place::new().await;
    let other = tls::self_signed(&SelfSignedConfig::default()).unwrap();
    let other = place.write("other.crt", &other.ca_pem);
    let served = Served::start(place.serve_trusting(&other, &[])).await;
    admin::get_until(served.admin, "/readyz?verbose", |answer| {
        answer.text().contains("certificate")
    })
    .await;
    let mut client = Client::connect(
        served.address,
        &place.read("ca.crt"),
        place.plane.token(),
        Protocol::Http2,
    )
    .await;
    assert_eq!(
        client.create("a").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(place.plane.journal().is_empty());
}
