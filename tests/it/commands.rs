//! Commands other than `serve`, and the help of all commands.

use std::os::unix::fs::PermissionsExt;

use crate::cases::every;
use crate::support::admin;
use crate::support::executable::{Exit, Place, Served, command, run, run_with_input};

fn sample(name: &str) -> String {
    format!("{}/tests/samples/{name}.http", env!("CARGO_MANIFEST_DIR"))
}

fn succeeded(ended: Exit) -> String {
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(0), ""),
        "{ended:?}"
    );
    ended.stdout
}

#[tokio::test]
async fn check_config_accepts_the_example_and_names_every_mistake_with_its_line() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/example.yaml");
    assert_eq!(
        succeeded(run(command(&["check-config", example])).await),
        format!("{example}: ok\n")
    );

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wrong.yaml");
    std::fs::write(
        &file,
        "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\nmode: on\nreplay:\n  maxHold: 8\n  maxhold: 8s\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let ended = run(command(&["check-config", file])).await;
    let starts: Vec<_> = ended
        .stdout
        .lines()
        .map(|line| {
            line.strip_prefix(file)
                .unwrap()
                .split(": ")
                .take(2)
                .collect::<Vec<_>>()
                .join(": ")
        })
        .collect();
    assert_eq!(
        (ended.code, starts),
        (
            Some(1),
            vec![
                ":3: mode".to_owned(),
                ":5: replay.maxHold".to_owned(),
                ":6: replay.maxhold".to_owned()
            ]
        ),
        "{}",
        ended.stdout
    );

    let ended = run(command(&["check-config", "/nowhere/config.yaml"])).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(
        ended.stderr.contains("/nowhere/config.yaml") && ended.stderr.contains("No such file"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn what_configz_shows_is_a_valid_file() {
    let place = Place::new().await;
    let served = Served::start(command(&[
        "serve",
        "--config",
        &place.config("rateLimit: {namespace: {qps: 0.5, burst: 3}}\n"),
    ]))
    .await;
    let shown = admin::get(served.admin, "/configz").await;
    assert_eq!(shown.headers["content-type"], "application/json");
    assert_eq!(shown.json()["rateLimit"]["namespace"]["qps"], 0.5);
    let copy = place.write("copy.yaml", &shown.text());
    succeeded(run(command(&["check-config", &copy])).await);
    let again = Served::start(command(&["serve", "--config", &copy])).await;
    assert_eq!(
        admin::get(again.admin, "/configz").await.json(),
        shown.json()
    );
}

cases!(
    explain_tells_the_class_and_the_plan_of_a_captured_answer,
    [
        a_quota_conflict("quota_conflict_409", "quota_conflict", "replay"),
        a_quota_conflict_in_protobuf("quota_conflict_409_protobuf", "quota_conflict", "replay"),
        a_quota_conflict_in_yaml("quota_conflict_409_yaml", "quota_conflict", "replay"),
        too_many_requests("too_many_requests_429", "throttled", "replay"),
        an_exceeded_quota("exceeded_quota_403", "exceeded_quota", "relay"),
        a_pod_that_exists("already_exists_409", "already_exists", "relay"),
        a_timeout_of_the_handler("etcd_stalled_timeout2s_504", "handler_timeout", "relay"),
        no_credentials("unauthorized_401", "unauthorized", "relay"),
    ]
);
async fn explain_tells_the_class_and_the_plan_of_a_captured_answer(
    name: &str,
    class: &str,
    verdict: &str,
) {
    let text = succeeded(run(command(&["explain", &sample(name)])).await);
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    assert_eq!(
        (value("class").as_str(), value("verdict").as_str()),
        (class, verdict),
        "{name}: {text}"
    );
    assert_eq!(
        text.contains("replay 1 "),
        verdict == "replay",
        "{name}: {text}"
    );
    let raw = std::fs::read(sample(name)).unwrap();
    assert_eq!(
        succeeded(run_with_input(command(&["explain"]), &raw).await),
        text,
        "{name} on stdin"
    );
    assert_eq!(
        succeeded(run_with_input(command(&["explain", "-"]), &raw).await),
        text,
        "{name} as -"
    );
}

#[tokio::test]
async fn explain_asks_the_configuration_and_refuses_what_is_no_answer() {
    let place = Place::new().await;
    let config =
        place.config("replay: {exceededQuota: {enabled: true, maxAttempts: 3, maxHold: 5s}}\n");
    let text = succeeded(
        run(command(&[
            "explain",
            "--config",
            &config,
            &sample("exceeded_quota_403"),
        ]))
        .await,
    );
    assert!(
        text.contains("verdict   replay") && text.contains("at most 3 attempts within 5s"),
        "{text}"
    );
    let quoted = succeeded(run(command(&["explain", &sample("quota_conflict_409")])).await);
    assert!(
        quoted.contains("on resourcequotas \"") && quoted.contains("after 0s to 100ms"),
        "{quoted}"
    );
    every(
        [
            (&b""[..], "empty"),
            (b"HTTP/1.1 nothing\n\n", "line 1"),
            (b"{\"kind\":\"Pod\"}", "neither a status line"),
        ],
        async |(raw, part)| {
            let ended = run_with_input(command(&["explain"]), raw).await;
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
            assert!(ended.stderr.contains(part), "{}", ended.stderr);
        },
    )
    .await;
}

#[tokio::test]
async fn kubeconfig_writes_a_private_file_that_leads_to_the_proxy() {
    let place = Place::new().await;
    let served = place.served(&[]).await;
    let (server, ca, output) = (
        format!("https://{}", served.address),
        place.path("ca.crt"),
        place.path("out"),
    );
    let new = [
        "kubeconfig",
        "--server",
        &server,
        "--certificate-authority",
        &ca,
        "--token-file",
        "/token",
        "--namespace",
        "team",
    ];
    let text = succeeded(run(command(&new)).await);
    assert!(
        text.contains("tokenFile: /token")
            && text.contains("namespace: team")
            && text.contains(&server),
        "{text}"
    );
    assert_eq!(
        succeeded(run(command(&[&new[..], &["--output", &output]].concat())).await),
        ""
    );
    assert_eq!(place.read("out"), text);
    assert_eq!(
        std::fs::metadata(&output).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let endpoint = kube_retry_proxy::kubeconfig::read_endpoint(output.as_ref(), None).unwrap();
    assert_eq!(endpoint.server, server);
}

#[tokio::test]
async fn kubeconfig_keeps_what_it_rewrites_and_warns_of_what_will_not_work() {
    let place = Place::new().await;
    let from = place.write(
        "from",
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- {name: a, cluster: {server: 'https://10.0.0.1:6443'}}\n\
         contexts:\n- {name: a, context: {cluster: a, user: me}}\nusers:\n- {name: me, user: {client-certificate: me.crt, client-key: me.key}}\n",
    );
    let ended = run(command(&[
        "kubeconfig",
        "--server",
        "https://127.0.0.1:8443",
        "--from",
        &from,
    ]))
    .await;
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.starts_with("warning: user 'me'")
            && ended.stderr.contains("client certificate"),
        "{}",
        ended.stderr
    );
    assert!(
        !ended.stdout.contains("warning") && !ended.stdout.contains("10.0.0.1"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("https://127.0.0.1:8443")
            && ended.stdout.contains(&place.path("me.key")),
        "{}",
        ended.stdout
    );

    let ended = run(command(&[
        "kubeconfig",
        "--server",
        "https://127.0.0.1:8443",
        "--from",
        &from,
        "--context",
        "b",
    ]))
    .await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(
        ended.stderr.contains("no context 'b' (it has a)"),
        "{}",
        ended.stderr
    );
    assert_eq!(
        run(command(&[
            "kubeconfig",
            "--server",
            "https://127.0.0.1:8443"
        ]))
        .await
        .code,
        Some(2),
        "neither new nor from"
    );
}

#[tokio::test]
async fn the_help_of_each_command_names_its_flags() {
    let every = [
        (
            "serve",
            &[
                "--config",
                "--mode",
                "--upstream",
                "--upstream-ca-file",
                "--upstream-server-name",
                "--kubeconfig",
                "--context",
                "--bind-address",
                "--secure-port",
                "--tls-cert-file",
                "--tls-private-key-file",
                "--self-signed-dir",
                "--self-signed-hosts",
                "--token-file",
                "--admin-bind-address",
                "--log-format",
                "--log-level",
                "--v",
                "KUBE_RETRY_PROXY_UPSTREAM",
                "KUBERNETES_SERVICE_HOST",
            ][..],
        ),
        ("check-config", &["<FILE>"]),
        (
            "status",
            &[
                "--admin-address",
                "--output",
                "KUBE_RETRY_PROXY_ADMIN_BIND_ADDRESS",
                "kubectl",
            ],
        ),
        ("completion", &["bash", "zsh", "fish"]),
        (
            "explain",
            &[
                "[FILE]",
                "--config",
                "--admin-address",
                "--namespace",
                "--limit",
                "--audit-log",
                "--top",
                "--output",
            ],
        ),
        (
            "kubeconfig",
            &[
                "--server",
                "--certificate-authority",
                "--token-file",
                "--from",
                "--context",
                "--namespace",
                "--output",
            ],
        ),
        ("demo", &["--pods", "--concurrency", "--output", "--serve"]),
    ];
    let list = succeeded(run(command(&["--help"])).await);
    for (name, flags) in every {
        assert!(list.contains(&format!("\n  {name} ")), "{list}");
        let help = succeeded(run(command(&[name, "--help"])).await);
        for flag in flags {
            assert!(help.contains(flag), "no {flag} in the help of {name}");
        }
        assert!(help.contains("Example"), "no example in the help of {name}");
    }
    assert!(
        list.contains("Exit codes: 0 done, 1 failed, 2 wrong usage."),
        "{list}"
    );
}

#[tokio::test]
async fn the_version_is_that_of_the_package() {
    let expected = format!("kube-retry-proxy {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(succeeded(run(command(&["--version"])).await), expected);
}
