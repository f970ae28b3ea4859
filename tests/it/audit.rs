//! `explain --audit-log`, as people call it.

use serde_json::Value;

use crate::cases::every;
use crate::support::executable::{command, run, run_with_input};

const LOG: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/samples/audit/metadata.jsonl"
);
const LISTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/samples/audit/event_list.jsonl"
);

#[tokio::test]
async fn an_audit_log_is_read_from_files_and_from_stdin() {
    let whole = std::fs::read(LOG).unwrap();
    let arguments = ["explain", "--output", "json", "--audit-log"];
    let explain = |files: &[&str]| command(&[&arguments[..], files].concat());
    every(
        [
            (run(explain(&[LOG])).await, 2, 1),
            (run_with_input(explain(&["-"]), &whole).await, 2, 1),
            (
                run_with_input(explain(&[LISTS, "-", LOG]), &whole).await,
                4,
                3,
            ),
        ],
        async |(ended, conflicts, files)| {
            assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
            let report: Value = serde_json::from_str(&ended.stdout).unwrap();
            assert_eq!(
                (&report["quotaConflicts"], &report["files"]),
                (&conflicts.into(), &files.into())
            );
        },
    )
    .await;
}

#[tokio::test]
async fn the_configuration_decides_what_would_be_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.yaml");
    let text = "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\n\
                creates: {resources: [{resource: secrets}]}\n";
    std::fs::write(&config, text).unwrap();
    let arguments = ["explain", "--audit-log", LOG, "--config"];
    let ended = run(command(
        &[&arguments[..], &[config.to_str().unwrap()]].concat(),
    ))
    .await;
    let printed = &ended.stdout;
    assert!(
        printed.contains("The proxy would not send 3 of these creates again"),
        "{printed}"
    );
}

#[tokio::test]
async fn what_is_no_audit_log_is_refused_with_the_place() {
    let directory = env!("CARGO_MANIFEST_DIR");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let line = format!("{manifest}:1 is no audit event in JSON");
    every(
        [
            (&["--audit-log", manifest][..], 1, line.as_str()),
            (&["--audit-log", LOG, "/nowhere"], 1, "cannot read /nowhere"),
            (&["--audit-log"], 2, "FILE"),
            (&["--audit-log", "-", "-"], 1, "`-` is given twice"),
            (&["--audit-log", directory], 1, "cannot read "),
            (&["--audit-log", directory], 1, "is a directory"),
            (&["--audit-log", "/dev/null"], 1, ""),
            (&["--top", "3"], 2, "--audit-log"),
            (&["--top", "3", LOG], 2, "--top"),
            (&["-o", "json", LOG], 2, "--output"),
            (&["-n", "x", LOG], 2, "--namespace"),
            (&["--limit", "2", LOG], 2, "--limit"),
            (&["--audit-log", LOG, "-n", "team-a"], 2, "--namespace"),
            (&["--audit-log", LOG, "--limit", "2"], 2, "--limit"),
            (&[LOG], 1, "use --audit-log"),
            (&[directory], 1, "directory"),
            (&["-"], 1, "standard input cannot be explained"),
            (
                &["--audit-log", LOG, "--admin-address", "a:1"],
                2,
                "--admin-address",
            ),
        ],
        async |(arguments, code, words)| {
            let ended = run(command(&[&["explain"], arguments].concat())).await;
            assert_eq!(ended.code, Some(code), "{}", ended.stderr);
            assert!(ended.stderr.contains(words), "{}", ended.stderr);
        },
    )
    .await;
}
