//! What changes while the proxy runs: `mode`, `replay` and `rateLimit` of the file, and the
//! certificate. Whatever is wrong changes nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use http::StatusCode;
use kube_retry_proxy::app::{self, App, ConfigSource};
use kube_retry_proxy::cli::serve::{self, ServeArgs};
use kube_retry_proxy::cli::{Cli, Command};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;

use crate::support::executable::{Place, Served, command};
use crate::support::logs::Logs;
use crate::support::{
    Client, Protocol, admin, conflict, eventually, sample, servers_up, try_tls_stream,
};

fn parsed(flags: &[&str]) -> ServeArgs {
    match Cli::parse_from(["kube-retry-proxy", "serve"].iter().chain(flags)).command {
        Command::Serve(args) => *args,
        other => panic!("{other:?}"),
    }
}

/// A proxy in this process that looks at its file every few milliseconds.
struct Reloading {
    proxy: App,
    looks: Arc<AtomicUsize>,
}

impl Reloading {
    async fn start(args: ServeArgs) -> Self {
        let looks = Arc::new(AtomicUsize::new(0));
        let config = serve::load(&args).unwrap();
        let count = Arc::clone(&looks);
        let mut source = ConfigSource::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(serve::load(&args)?)
        });
        source.every = Duration::from_millis(5);
        Self {
            proxy: app::start(config, Some(source)).await.unwrap(),
            looks,
        }
    }

    /// With a configuration file alone.
    async fn of_file(path: &str) -> Self {
        Self::start(parsed(&[&format!("--config={path}")])).await
    }

    /// Returns when the files have been looked at again, more than once.
    async fn looked_again(&self) {
        let enough = self.looks.load(Ordering::SeqCst) + 3;
        eventually("further looks at the file", || {
            self.looks.load(Ordering::SeqCst) >= enough
        })
        .await;
    }

    fn reloads(&self, what: &str, result: &str) -> f64 {
        sample(
            &self.proxy,
            &format!("kube_retry_proxy_reloads_total{{result=\"{result}\",what=\"{what}\"}}"),
        )
    }

    async fn configz(&self) -> Value {
        admin::get(self.proxy.admin_address, "/configz")
            .await
            .json()
    }

    async fn client(&self, place: &Place) -> Client {
        Client::connect(
            self.proxy.address,
            &place.read("ca.crt"),
            place.plane.token(),
            Protocol::Http1,
        )
        .await
    }
}

#[tokio::test]
async fn mode_replay_and_rate_limit_change_without_a_restart() {
    let place = Place::new().await;
    let running = Reloading::of_file(&place.config("")).await;
    let faults = place.plane.faults(0).unwrap();
    let mut client = running.client(&place).await;
    faults.next_create(conflict());
    assert_eq!(
        client.create("a").await.status,
        StatusCode::CREATED,
        "replayed"
    );

    place.config("mode: Off\n");
    eventually("the first reload", || {
        running.reloads("config", "success") == 1.0
    })
    .await;
    assert_eq!(running.configz().await["mode"], "Off");
    assert_eq!(
        sample(&running.proxy, "kube_retry_proxy_mode{mode=\"off\"}"),
        1.0
    );
    assert_eq!(
        sample(&running.proxy, "kube_retry_proxy_mode{mode=\"enforce\"}"),
        0.0
    );
    faults.next_create(conflict());
    assert_eq!(
        client.create("b").await.status,
        StatusCode::CONFLICT,
        "the same connection, a new mode"
    );

    place.config("replay: {maxAttempts: 2}\n");
    eventually("the second reload", || {
        running.reloads("config", "success") == 2.0
    })
    .await;
    faults.next_create(conflict());
    faults.next_create(conflict());
    assert_eq!(
        client.create("c").await.status,
        StatusCode::CONFLICT,
        "all attempts were used"
    );

    place.config("rateLimit: {namespace: {qps: 0.001, burst: 1}, maxWait: 0s}\n");
    eventually("the third reload", || {
        running.reloads("config", "success") == 3.0
    })
    .await;
    assert_eq!(client.create("d").await.status, StatusCode::CREATED);
    assert_eq!(
        client.create("e").await.status,
        StatusCode::TOO_MANY_REQUESTS
    );

    running.looked_again().await;
    assert_eq!(
        (
            running.reloads("config", "success"),
            running.reloads("config", "failure")
        ),
        (3.0, 0.0),
        "a look is no reload"
    );
    running.proxy.stop().await;
}

#[tokio::test]
async fn a_config_map_that_swaps_its_symlinks_is_noticed() {
    let place = Place::new().await;
    // As kubelet writes it: config.yaml → ..data/config.yaml, ..data → ..1.
    let text = fs::read_to_string(place.config("")).unwrap();
    for (version, more) in [("..1", ""), ("..2", "mode: Observe\n")] {
        fs::create_dir(place.path(version)).unwrap();
        place.write(&format!("{version}/config.yaml"), &format!("{text}{more}"));
    }
    symlink("..1", place.path("..data")).unwrap();
    symlink("..data/config.yaml", place.path("mounted.yaml")).unwrap();
    let running = Reloading::of_file(&place.path("mounted.yaml")).await;
    running.looked_again().await;
    assert_eq!(running.configz().await["mode"], "Enforce");

    symlink("..2", place.path("..data_tmp")).unwrap();
    fs::rename(place.path("..data_tmp"), place.path("..data")).unwrap();
    eventually("the reload", || running.reloads("config", "success") == 1.0).await;
    assert_eq!(running.configz().await["mode"], "Observe");
    running.proxy.stop().await;
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_told_once() {
    let logs = Logs::collect();
    let place = Place::new().await;
    let running = Reloading::of_file(&place.config("mode: Observe\n")).await;
    let told = || logs.with("Cannot reload").len();
    let mut failures = 0;
    for broken in ["mode: Maybe\n", "mode: [\n", "replay: {maxAttempts: 0}\n"] {
        place.config(broken);
        failures += 1;
        eventually("the failure", || {
            running.reloads("config", "failure") == f64::from(failures)
        })
        .await;
        running.looked_again().await;
        assert_eq!(
            (running.reloads("config", "failure"), told()),
            (f64::from(failures), failures as usize),
            "{broken}: once"
        );
        assert_eq!(running.configz().await["mode"], "Observe", "{broken}");
    }
    assert!(
        logs.with("Cannot reload")[0].contains("mode: 'Maybe'"),
        "{:?}",
        logs.with("Cannot reload")
    );
    assert!(
        logs.with("Cannot reload")
            .iter()
            .all(|line| line.contains("ERROR")),
        "{:?}",
        logs.with("Cannot reload")
    );

    fs::remove_file(place.path("config.yaml")).unwrap();
    eventually("the failure", || {
        running.reloads("config", "failure") == f64::from(failures + 1)
    })
    .await;
    assert_eq!(
        running.client(&place).await.create("a").await.status,
        StatusCode::CREATED,
        "it serves on"
    );

    place.config("mode: Off\n");
    eventually("the reload", || running.reloads("config", "success") == 1.0).await;
    assert_eq!(running.configz().await["mode"], "Off");
    place.config("replay: {maxAttempts: 0}\n");
    eventually("a mistake that comes back is told again", || {
        told() == failures as usize + 2
    })
    .await;
    running.proxy.stop().await;
}

#[tokio::test]
async fn a_section_that_needs_a_restart_is_named_and_keeps_nothing_else_back() {
    let logs = Logs::collect();
    let place = Place::new().await;
    let running = Reloading::of_file(&place.config("")).await;
    place.config("mode: Off\ndrain: {timeout: 3s}\nlogging: {level: debug}\n");
    eventually("the reload", || running.reloads("config", "success") == 1.0).await;
    running.looked_again().await;
    let warnings = logs.with("take effect at the next start only");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("WARN") && warnings[0].contains("drain, logging"),
        "{warnings:?}"
    );
    let configz = running.configz().await;
    assert_eq!(
        (&configz["mode"], &configz["drain"]["timeout"]),
        (&"Off".into(), &"20s".into()),
        "what is in effect"
    );
    assert_eq!(running.reloads("config", "failure"), 0.0);
    running.proxy.stop().await;
}

#[tokio::test]
async fn a_flag_stays_above_the_file_that_changes() {
    let place = Place::new().await;
    let flags = [&format!("--config={}", place.config("")), "--mode=Observe"];
    let running = Reloading::start(parsed(&flags)).await;
    place.config("mode: Off\nreplay: {maxAttempts: 3}\n");
    eventually("the reload", || running.reloads("config", "success") == 1.0).await;
    let configz = running.configz().await;
    assert_eq!(
        (&configz["mode"], &configz["replay"]["maxAttempts"]),
        (&"Observe".into(), &3.into())
    );
    running.proxy.stop().await;
}

#[tokio::test]
async fn a_create_keeps_the_settings_that_it_began_with() {
    let place = Place::new().await;
    let running =
        Reloading::of_file(&place.config("replay: {baseDelay: 1ms, maxDelay: 1ms}\n")).await;
    let faults = place.plane.faults(0).unwrap();
    faults.next_create(kube_retry_proxy::model::Fault::Hold);
    let mut client = running.client(&place).await;
    let create = tokio::spawn(async move { client.create("a").await });
    eventually("the create is at the apiserver", || {
        !place.plane.journal().creates().is_empty()
    })
    .await;
    place.config("mode: Off\n");
    eventually("the reload", || running.reloads("config", "success") == 1.0).await;
    faults.release();
    assert_eq!(create.await.unwrap().status, StatusCode::CREATED);
    assert_eq!(
        admin::get(running.proxy.admin_address, "/debug/decisions")
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
    running.proxy.stop().await;
}

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

    // Half of the pair, and damaged halves.
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

    // A damaged one, and none.
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
    assert_eq!(
        client.get("/version").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );

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

#[tokio::test]
async fn the_process_looks_at_its_file_by_itself() {
    let place = Place::new().await;
    let served = Served::start(command(&["serve", "--config", &place.config("")])).await;
    place.config("mode: Off\n");
    let reloaded = admin::get_until(served.admin, "/configz", |answer| {
        answer.json()["mode"] == "Off"
    })
    .await;
    assert_eq!(reloaded.status, StatusCode::OK);
    eventually("it says so", || {
        served.process.stderr().contains("Reloaded")
    })
    .await;
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
    /// Valid until the year begins.
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
