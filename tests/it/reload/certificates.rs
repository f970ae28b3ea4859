//! The serving certificate with its key, and the CA of the upstream.

use http::StatusCode;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::{Reloading, parsed};
use crate::support::executable::Place;
use crate::support::logs::Logs;
use crate::support::{Client, Protocol, admin, eventually, sample, servers_up, try_tls_stream};

#[tokio::test]
async fn replaced_certificate_files_hold_for_new_connections_and_open_ones_live_on() {
    let logs = Logs::collect();
    let place = Place::new().await;
    let (old, new) = (Pair::until(2040), Pair::until(2041));
    let (certificate, key) = (
        place.write("tls.crt", &old.certificate),
        place.write("tls.key", &old.key),
    );
    let running = Reloading::start(parsed(&[
        &format!("--config={}", place.config("")),
        &format!("--tls-cert-file={certificate}"),
        &format!("--tls-private-key-file={key}"),
    ]))
    .await;
    let expiry = || {
        sample(
            &running.proxy,
            "kube_retry_proxy_certificate_expiry_timestamp_seconds",
        )
    };
    let accepts = async |pair: &Pair| {
        try_tls_stream(running.proxy.address, &pair.ca, Protocol::Http1)
            .await
            .is_ok()
    };
    assert_eq!(expiry(), START_OF_2040);
    let mut open = Client::connect(
        running.proxy.address,
        &old.ca,
        place.plane.token(),
        Protocol::Http1,
    )
    .await;

    // A single half of the pair, and damaged halves.
    let mut failures = 0;
    for (name, text) in [
        ("tls.key", new.key.as_str()),
        ("tls.key", ""),
        ("tls.crt", &new.certificate[..200]),
    ] {
        place.write(name, text);
        failures += 1;
        eventually("the failure", || {
            running.reloads("certificate", "failure") == f64::from(failures)
        })
        .await;
        running.looked_again().await;
        assert_eq!(
            logs.with("Cannot reload").len(),
            failures as usize,
            "told once"
        );
        assert!(
            accepts(&old).await && !accepts(&new).await,
            "the last good pair stays: {name}"
        );
        assert_eq!(expiry(), START_OF_2040);
    }
    assert!(
        logs.with("Cannot reload")[0].contains("does not fit"),
        "{:?}",
        logs.with("Cannot reload")
    );

    place.write("tls.crt", &new.certificate);
    place.write("tls.key", &new.key);
    eventually("the reload", || {
        running.reloads("certificate", "success") == 1.0
    })
    .await;
    assert!(
        accepts(&new).await && !accepts(&old).await,
        "new handshakes see the new certificate"
    );
    assert_eq!(expiry(), START_OF_2041);
    assert_eq!(
        open.create("a").await.status,
        StatusCode::CREATED,
        "an open connection keeps its own"
    );
    assert_eq!(running.reloads("config", "failure"), 0.0);
    running.proxy.stop().await;
}

#[tokio::test]
async fn a_replaced_upstream_ca_holds_for_new_connections() {
    let logs = Logs::collect();
    let place = Place::new().await;
    let right = place.read("upstream-ca.crt");
    let other = Pair::until(2040).ca;
    let running = Reloading::of_file(&place.config("")).await;
    let mut client = running.client(&place).await;
    assert_eq!(client.get("/version").await.status, StatusCode::OK);

    // A damaged CA, and a missing one.
    for (failures, text) in [(1.0, &right[..100]), (2.0, "")] {
        place.write("upstream-ca.crt", text);
        eventually("the failure", || {
            running.reloads("upstream_ca", "failure") == failures
        })
        .await;
        running.looked_again().await;
        assert_eq!(
            logs.with("Cannot reload").len(),
            failures as usize,
            "told once"
        );
        place.plane.faults(0).unwrap().cut_connections();
        eventually("it is up, by the last good one", || {
            servers_up(&running.proxy) == 1
        })
        .await;
        assert_eq!(
            client.create(&format!("pod-{failures}")).await.status,
            StatusCode::CREATED
        );
    }

    place.write("upstream-ca.crt", &other);
    eventually("the reload", || {
        running.reloads("upstream_ca", "success") == 1.0
    })
    .await;
    place.plane.faults(0).unwrap().cut_connections();
    eventually("new connections are verified by the new one", || {
        servers_up(&running.proxy) == 0
    })
    .await;
    let refused = client.get("/version").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    let message = refused.json()["message"].to_string();
    let ready = admin::get(running.proxy.admin_address, "/readyz?verbose").await;
    for text in [message, ready.text()] {
        assert!(
            text.contains("is issued by 'CN=model control plane CA', which is not among"),
            "{text}"
        );
    }

    place.write("upstream-ca.crt", &format!("{other}{right}"));
    eventually("the second reload", || {
        running.reloads("upstream_ca", "success") == 2.0
    })
    .await;
    eventually("it is verified again, without a restart", || {
        servers_up(&running.proxy) == 1
    })
    .await;
    assert_eq!(client.create("b").await.status, StatusCode::CREATED);
    assert_eq!(running.reloads("certificate", "failure"), 0.0);
    running.proxy.stop().await;
}

const START_OF_2040: f64 = 2_208_988_800.0;
const START_OF_2041: f64 = START_OF_2040 + 366.0 * 86_400.0;

/// A certificate for 127.0.0.1 and its own CA.
struct Pair {
    ca: String,
    certificate: String,
    key: String,
}

impl Pair {
    /// A certificate that is valid until the beginning of this year.
    fn until(year: i32) -> Self {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        leaf.not_after = rcgen::date_time_ymd(year, 1, 1);
        let leaf = leaf.signed_by(&key, &ca).unwrap();
        Self {
            ca: ca.pem(),
            certificate: leaf.pem(),
            key: key.serialize_pem(),
        }
    }
}
