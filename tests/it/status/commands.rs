//! The commands that print the status, and the status page of the demo.

use std::process::Command;

use serde_json::Value;

use super::experienced;
use crate::support::NAMESPACE;
use crate::support::executable::{Process, command, run, run_with_input};

#[tokio::test]
async fn the_status_command_prints_the_same_numbers() {
    let rig = experienced().await;
    let address = rig.proxy.admin_address.to_string();
    let printed = run(command(&["status", "--admin-address", &address])).await;
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let lines: Vec<String> = printed
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let page = rig.admin("/").await.text();
    for heading in [
        "Conflicts",
        "Created",
        "After a replay",
        "Gave up",
        "Other outcomes",
    ] {
        assert!(page.contains(&format!(">{heading}<")), "{heading}");
        assert!(
            printed.stdout.contains(&heading.to_uppercase()),
            "{heading}"
        );
    }
    for line in [
        "absorbed in the last minute 2",
        "absorbed since the start 2 of 2",
        "creates saved by a replay 2",
        "team 2 1 2 0 1",
        "created after a replay 2",
        "Attempts of one create 8 - 0",
    ] {
        assert!(
            lines.iter().any(|printed| printed == line),
            "no {line:?} in {}",
            printed.stdout
        );
    }
    let json = run(command(&[
        "status",
        "-o",
        "json",
        "--admin-address",
        &format!("http://{address}/"),
    ]))
    .await
    .stdout;
    let (json, page): (Value, _) = (
        serde_json::from_str(&json).unwrap(),
        rig.admin("/status.json").await.json(),
    );
    for field in [
        "version",
        "mode",
        "outcomes",
        "namespaces",
        "limits",
        "decisions",
    ] {
        assert_eq!(json[field], page[field], "{field}");
    }
    let mut inside = command(&["status"]);
    inside.env(
        "KUBE_RETRY_PROXY_ADMIN_BIND_ADDRESS",
        format!("0.0.0.0:{}", rig.proxy.admin_address.port()),
    );
    assert_eq!(
        run(inside).await.code,
        Some(0),
        "as in the container of a proxy"
    );

    let wrong = run(command(&[
        "status",
        "--admin-address",
        &rig.proxy.address.to_string(),
    ]))
    .await;
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(1), ""));
    rig.stop().await;
    let gone = run(command(&["status", "--admin-address", &address])).await;
    assert_eq!(gone.code, Some(1));
    assert!(
        gone.stderr
            .contains(&format!("cannot connect to {address}"))
            && gone.stderr.contains("refused"),
        "{}",
        gone.stderr
    );
}

#[tokio::test]
async fn explain_tells_the_decisions_of_a_running_proxy_and_saved_ones() {
    let rig = experienced().await;
    let address = rig.proxy.admin_address.to_string();
    let told = run(command(&[
        "explain",
        "--admin-address",
        &address,
        "--namespace",
        NAMESPACE,
    ]))
    .await;
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert_eq!(told.stdout.matches("create    pods team/").count(), 4);
    assert!(
        told.stdout
            .contains("outcome   created after a replay (3 attempts, held "),
        "{}",
        told.stdout
    );
    assert!(
        told.stdout
            .contains("  attempt 1  409 quota conflict, took ")
            && told.stdout.contains("(safe to send again)"),
        "{}",
        told.stdout
    );
    let saved = rig.admin("/debug/decisions").await.body;
    assert_eq!(
        run_with_input(command(&["explain"]), &saved).await.stdout,
        told.stdout
    );
    let one = run(command(&[
        "explain",
        "--admin-address",
        &address,
        "--limit",
        "1",
    ]))
    .await;
    assert!(
        told.stdout.starts_with(&one.stdout) && one.stdout.contains("team/throttled"),
        "{}",
        one.stdout
    );
    let none = run(command(&[
        "explain",
        "--admin-address",
        &address,
        "--namespace",
        "elsewhere",
    ]))
    .await;
    assert_eq!(none.stdout, "No creates yet.\n");
    rig.stop().await;
}

cases!(
    completions_are_scripts_of_their_shells,
    [
        bash("bash", "complete -F"),
        zsh("zsh", "#compdef kube-retry-proxy"),
        fish("fish", "complete -c kube-retry-proxy"),
    ]
);
async fn completions_are_scripts_of_their_shells(shell: &str, mark: &str) {
    let script = run(command(&["completion", shell])).await.stdout;
    for word in [mark, "check-config", "admin-address", "self-signed-dir"] {
        assert!(script.contains(word), "{shell}: no {word}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    match Command::new(shell).arg("-n").arg(file.path()).output() {
        Ok(checked) => assert!(checked.status.success(), "{shell}: {checked:?}"),
        // Other shells may be missing. The checks of this repository need Bash anyway.
        Err(error) => assert!(shell != "bash", "{error}"),
    }
}

#[tokio::test]
async fn the_demo_serves_until_it_is_interrupted() {
    let mut demo = Process::start(command(&["demo", "--serve"]));
    let line = demo.stdout_line("Status page: http://").await;
    let address = line
        .trim_start_matches("Status page: http://")
        .trim_end_matches('/')
        .to_owned();
    let status = run(command(&["status", "--admin-address", &address])).await;
    assert!(
        status.stdout.contains("QUOTA CONFLICTS"),
        "{}",
        status.stderr
    );
    demo.signal("INT");
    assert_eq!(demo.ended().await.code, Some(0));
}
