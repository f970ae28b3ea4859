//! Commands other than `serve`, and the help of all commands.

mod explain;

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
async fn check_config_reads_standard_input_too() {
    let right = b"apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\n";
    let ended = run_with_input(command(&["check-config", "-"]), right).await;
    assert_eq!(succeeded(ended), "-: ok\n");
    let wrong = run_with_input(command(&["check-config", "-"]), b"mode: Off\n").await;
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stdout.starts_with("-:1: apiVersion: "), "{wrong:?}");
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
    let kept = run(command(&[
        "kubeconfig",
        "--server",
        "https://127.0.0.1:8443",
        "--client-certificates",
        "--from",
        &from,
    ]))
    .await;
    assert_eq!((&*kept.stdout, &*kept.stderr), (&*ended.stdout, ""));
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
                "--embed-token",
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
