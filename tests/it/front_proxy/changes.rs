//! What changes while a connection is open: the CAs, the proxy's own certificate, the time.

use http::{Method, StatusCode};

use super::apiserver::CONTENDED;
use super::pki::{Ca, Leaf};
use super::{Front, message, request};
use crate::cases::every;
use crate::support::{Answer, Client, Protocol, eventually, sample};

async fn ask(client: &mut Client) -> Answer {
    client.ask(request(client, Method::GET, "/api", &[])).await
}

fn reloads(front: &Front, what: &str, result: &str) -> f64 {
    let labels = format!("{{result=\"{result}\",what=\"{what}\"}}");
    sample(
        &front.proxy,
        &format!("kube_retry_proxy_reloads_total{labels}"),
    )
}

cases!(replaced_cas_hold_for_open_connections, protocols);
async fn replaced_cas_hold_for_open_connections(down: Protocol) {
    let front = Front::start(Protocol::Http2).await;
    let other = Ca::new("other");
    let (jane, joe) = (front.clients.client("jane", &[]), other.client("joe", &[]));
    let mut jane = front.client(Some(&jane), down).await;
    let mut joe = front.client(Some(&joe), down).await;
    let mut verdicts = async || [ask(&mut jane).await.status, ask(&mut joe).await.status];
    const YES: StatusCode = StatusCode::OK;
    const NO: StatusCode = StatusCode::UNAUTHORIZED;
    assert_eq!(verdicts().await, [YES, NO]);

    let mut failures = 0.0;
    for damaged in [
        "",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    ] {
        front.write("clients.crt", damaged);
        failures += 1.0;
        eventually("the failure", || {
            reloads(&front, "client_ca", "failure") >= failures
        })
        .await;
        assert_eq!(verdicts().await, [YES, NO], "the last good CAs stay");
    }
    let mut successes = 0.0;
    for (text, expected) in [
        (
            front.clients.pem() + "# a comment\n" + &other.pem(),
            [YES, YES],
        ),
        (other.pem(), [NO, YES]),
        (front.clients.pem(), [YES, NO]),
    ] {
        front.write("clients.crt", &text);
        successes += 1.0;
        eventually("the reload", || {
            reloads(&front, "client_ca", "success") == successes
        })
        .await;
        assert_eq!(verdicts().await, expected);
    }
    front.stop().await;
}

cases!(a_connection_does_not_outlive_its_certificate, protocols);
async fn a_connection_does_not_outlive_its_certificate(down: Protocol) {
    let front = Front::start(Protocol::Http2).await;
    let short = Leaf::of("jane", &[]).with(|leaf| leaf.ends = 2);
    let mut client = front.client(Some(&front.clients.issue(&short)), down).await;
    assert_eq!(ask(&mut client).await.status, StatusCode::OK);
    let refusal = loop {
        let answer = ask(&mut client).await;
        if answer.status != StatusCode::OK {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(refusal.status, StatusCode::UNAUTHORIZED);
    assert!(
        message(&refusal).contains("has expired at"),
        "{}",
        message(&refusal)
    );
    front.stop().await;
}

cases!(
    a_create_that_waits_does_not_outlive_its_certificate,
    protocols
);
async fn a_create_that_waits_does_not_outlive_its_certificate(down: Protocol) {
    let front = Front::start(Protocol::Http2).await;
    let jane = front.clients.client("jane", &[]);
    let mut client = front.client(Some(&jane), down).await;
    let create = request(&client, Method::POST, CONTENDED, &[]);
    let asked = tokio::spawn(async move { client.ask(create).await });
    let held = || sample(&front.proxy, "kube_retry_proxy_held");
    eventually("the create waits", || held() == 1.0).await;
    front.write("clients.crt", &Ca::new("other").pem());
    eventually("the reload", || {
        reloads(&front, "client_ca", "success") == 1.0
    })
    .await;
    assert_eq!(asked.await.unwrap().status, StatusCode::CONFLICT);
    assert_eq!(front.apiserver.requests().len(), 1);
    let reason = "kube_retry_proxy_not_replayed_total{reason=\"certificate_ended\"}";
    assert_eq!(sample(&front.proxy, reason), 1.0);
    front.stop().await;
}

#[tokio::test]
async fn a_replaced_certificate_of_the_proxy_is_shown_by_later_requests() {
    let front = Front::start(Protocol::Http2).await;
    let expiry = "kube_retry_proxy_front_proxy_certificate_expiry_timestamp_seconds";
    let jane = front.clients.client("jane", &[]);
    let mut client = front.client(Some(&jane), Protocol::Http2).await;
    assert_eq!(ask(&mut client).await.status, StatusCode::OK);
    let (before, old) = (front.apiserver.last("/api"), sample(&front.proxy, expiry));

    let longer = Leaf::of("front-proxy", &[]).with(|leaf| leaf.ends = 7200);
    let new = front.proxies.issue(&longer);
    // Half of a pair, and one that the apiserver would refuse.
    front.write("front.key", &new.key_pem());
    eventually("the failure", || {
        reloads(&front, "front_proxy_certificate", "failure") >= 1.0
    })
    .await;
    assert_eq!(ask(&mut client).await.status, StatusCode::OK);
    assert_eq!(front.apiserver.last("/api").shown, before.shown);
    front.write("front.crt", &new.certificate_pem());
    eventually("the reload", || {
        reloads(&front, "front_proxy_certificate", "success") == 1.0
    })
    .await;
    assert_eq!(ask(&mut client).await.status, StatusCode::OK);
    let after = front.apiserver.last("/api");
    assert_eq!(after.shown.as_ref(), Some(&new.chain[0]));
    assert_ne!(after.connection, before.connection);
    assert!(sample(&front.proxy, expiry) > old + 3000.0);
    front.stop().await;
}

#[tokio::test]
async fn files_that_cannot_work_keep_the_proxy_from_starting() {
    use kube_retry_proxy::{app, config::Config};

    let front = Front::start(Protocol::Http1).await;
    let server = Leaf::of("front-proxy", &[]).with(|leaf| leaf.purposes = Some(vec![1]));
    let server = front.proxies.issue(&server);
    front.write("server.crt", &server.certificate_pem());
    front.write("server.key", &server.key_pem());
    front.write("empty", "");
    let config = |edit: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        config.upstream.url = Some(front.apiserver.url().parse().unwrap());
        config.upstream.ca = Some(kube_retry_proxy::config::CaSource::Pem(
            front.apiserver.ca_pem.clone().into_bytes(),
        ));
        config.serving.client_ca_file = Some(front.path("clients.crt"));
        config.upstream.front_proxy_cert_file = Some(front.path("front.crt"));
        config.upstream.front_proxy_key_file = Some(front.path("front.key"));
        edit(&mut config);
        config
    };
    type Edit<'a> = &'a dyn Fn(&mut Config);
    let rows: [(&str, Edit<'_>, &str); 4] = [
        (
            "no file",
            &|config| config.serving.client_ca_file = Some(front.path("none")),
            "cannot read",
        ),
        (
            "an empty file",
            &|config| config.serving.client_ca_file = Some(front.path("empty")),
            "holds no certificate",
        ),
        (
            "for servers",
            &|config| {
                config.upstream.front_proxy_cert_file = Some(front.path("server.crt"));
                config.upstream.front_proxy_key_file = Some(front.path("server.key"));
            },
            "is not for clients: its extendedKeyUsage must have clientAuth",
        ),
        (
            "another key",
            &|config| config.upstream.front_proxy_key_file = Some(front.path("server.key")),
            "does not fit the certificate",
        ),
    ];
    every(
        rows.map(|(name, edit, why)| (name, config(edit), why)),
        async |(_, config, why)| {
            let error = app::start(config, None).await.err().unwrap();
            let text = kube_retry_proxy::telemetry::chain(&error).to_string();
            assert!(text.contains(why), "{text}");
        },
    )
    .await;
    front.stop().await;
}
