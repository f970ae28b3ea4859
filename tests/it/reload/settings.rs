//! The sections `mode`, `replay` and `rateLimit` of the configuration file.

use std::fs;
use std::os::unix::fs::symlink;

use http::StatusCode;
use model_control_plane::Fault;

use super::{Reloading, parsed};
use crate::support::executable::{Place, Served, command};
use crate::support::logs::Logs;
use crate::support::{admin, conflict, eventually, sample};

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

/// Nobody knows the names of the creates that arrived before.
#[tokio::test]
async fn what_was_in_flight_when_resolve_was_turned_on_leaves_later_creates_in_doubt() {
    let place = Place::new().await;
    let running = Reloading::of_file(&place.config("")).await;
    let faults = place.plane.faults(0).unwrap();
    let mut client = running.client(&place).await;
    faults.next_create(Fault::Hold);
    let mut earlier = running.client(&place).await;
    let earlier = tokio::spawn(async move { earlier.create("a").await });
    eventually("it has arrived", || place.plane.journal().len() == 1).await;

    for (reloads, replay) in [(1.0, "maxAttempts: 9"), (2.0, "ambiguous: Resolve")] {
        place.config(&format!("replay: {{{replay}}}\n"));
        eventually("the reload", || {
            running.reloads("config", "success") == reloads
        })
        .await;
    }
    faults.next_create(Fault::LoseAnswer);
    assert_eq!(
        client.create("b").await.status,
        StatusCode::GATEWAY_TIMEOUT,
        "it may be the object of the earlier create"
    );
    faults.release();
    assert_eq!(earlier.await.unwrap().status, StatusCode::CREATED);
    running.proxy.stop().await;
}

#[tokio::test]
async fn a_config_map_that_swaps_its_symlinks_is_noticed() {
    let place = Place::new().await;
    // The layout that kubelet creates: config.yaml → ..data/config.yaml, ..data → ..1.
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
    let warnings = logs.with("take effect at the next start");
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
    faults.next_create(model_control_plane::Fault::Hold);
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
