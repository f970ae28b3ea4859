//! The order of the sources.

use crate::rows::every;
use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};
use crate::config::{LogFormat, Mode, Pin};

fn args(args: &[&str]) -> ServeArgs {
    let cli = Cli::try_parse_from(["kube-retry-proxy", "serve"].iter().chain(args)).unwrap();
    let Command::Serve(args) = cli.command else {
        unreachable!()
    };
    *args
}

fn cluster() -> Cluster {
    Cluster {
        host: "10.96.0.1".into(),
        port: "443".into(),
        ca_file: "/sa/ca.crt".into(),
    }
}

fn endpoint() -> ApiserverEndpoint {
    ApiserverEndpoint {
        server: "https://kubeconfig:6443".into(),
        place: Place {
            path: "config".into(),
            line: 7,
        },
        insecure: false,
        ca: Some(CaSource::Pem(b"pem".to_vec())),
        server_name: Some("kubernetes".into()),
    }
}

fn file() -> Config {
    let text = "apiVersion: kube-retry-proxy/v1alpha1
kind: ProxyConfiguration
mode: Observe
upstream: {url: 'https://file:6443', caFile: /file/ca.crt, serverName: file-name}
serving: {securePort: 1, selfSigned: {hosts: [a]}}
logging: {level: warn}
";
    file::parse(text).unwrap()
}

fn url(config: &Config) -> String {
    config.upstream.url.as_ref().unwrap().to_string()
}

#[test]
fn in_a_cluster_nothing_is_needed() {
    let config = resolve(
        &args(&[]),
        ServeSources {
            cluster: Some(cluster()),
            ..ServeSources::default()
        },
    )
    .unwrap();
    assert_eq!(url(&config), "https://10.96.0.1:443/");
    assert_eq!(
        config.upstream.ca,
        Some(CaSource::File("/sa/ca.crt".into()))
    );
    assert_eq!(config.serving, Config::default().serving);
}

#[test]
fn the_environment_names_the_cluster() {
    let pod = |name: &str| match name {
        "KUBERNETES_SERVICE_HOST" => Some("fd00::1".to_owned()),
        "KUBERNETES_SERVICE_PORT" => Some("443".to_owned()),
        _ => None,
    };
    let cluster = Cluster::from_environment(pod).unwrap();
    assert_eq!(cluster.url(), "https://[fd00::1]:443");
    assert_eq!(cluster.ca_file.to_str(), Some(SERVICE_ACCOUNT_CA));
    assert_eq!(Cluster::from_environment(|_| None), None);
    assert_eq!(Cluster::from_environment(|_| Some(String::new())), None);
}

#[test]
fn a_flag_wins_over_the_kubeconfig_that_over_the_file_and_that_over_the_cluster() {
    let sources = |kubeconfig| ServeSources {
        file: file(),
        kubeconfig,
        cluster: Some(cluster()),
    };
    let config = resolve(&args(&[]), sources(None)).unwrap();
    assert_eq!(url(&config), "https://file:6443/");
    assert_eq!(
        (config.upstream.ca, config.upstream.server_name),
        (
            Some(CaSource::File("/file/ca.crt".into())),
            Some("file-name".into())
        )
    );

    let config = resolve(&args(&[]), sources(Some(endpoint()))).unwrap();
    assert_eq!(url(&config), "https://kubeconfig:6443/");
    assert_eq!(
        (config.upstream.ca, config.upstream.server_name),
        (endpoint().ca, endpoint().server_name)
    );

    let flags = args(&[
        "--upstream",
        "https://flag",
        "--upstream-ca-file",
        "/flag/ca.crt",
        "--upstream-server-name",
        "flag-name",
    ]);
    let config = resolve(&flags, sources(Some(endpoint()))).unwrap();
    assert_eq!(url(&config), "https://flag/");
    assert_eq!(
        (config.upstream.ca, config.upstream.server_name),
        (
            Some(CaSource::File("/flag/ca.crt".into())),
            Some("flag-name".into())
        )
    );
}

#[test]
fn a_kubeconfig_without_a_server_name_does_not_take_the_files() {
    let endpoint = ApiserverEndpoint {
        server_name: None,
        ..endpoint()
    };
    let config = resolve(
        &args(&[]),
        ServeSources {
            file: file(),
            kubeconfig: Some(endpoint),
            cluster: None,
        },
    )
    .unwrap();
    assert_eq!(config.upstream.server_name, None);
}

#[test]
fn several_servers_come_from_the_flag_or_the_file_and_replace_any_other_address() {
    let listed = "apiVersion: kube-retry-proxy/v1alpha1
kind: ProxyConfiguration
upstream: {servers: ['https://file-a', 'https://file-b'], caFile: /file/ca.crt}
";
    let sources = |kubeconfig| ServeSources {
        file: file::parse(listed).unwrap(),
        kubeconfig,
        cluster: Some(cluster()),
    };
    let addresses = |flags: &[&str], kubeconfig| {
        let config = resolve(&args(flags), sources(kubeconfig)).unwrap();
        config
            .upstream
            .addresses()
            .iter()
            .map(|url| url.host().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(addresses(&[], None), ["file-a", "file-b"]);
    assert_eq!(addresses(&[], Some(endpoint())), ["kubeconfig"]);
    assert_eq!(
        addresses(&["--upstream=https://x,https://y"], Some(endpoint())),
        ["x", "y"]
    );
    assert_eq!(addresses(&["--upstream=https://x"], None), ["x"]);
    let flags = ["--upstream-discover=kubernetes"];
    assert_eq!(
        addresses(&flags, None),
        ["10.96.0.1"],
        "the file's list is not asked for, the Service is"
    );
    assert_eq!(addresses(&flags, Some(endpoint())), ["kubeconfig"]);
    let both = resolve(
        &args(&[
            "--upstream-discover=kubernetes",
            "--upstream=https://x,https://y",
        ]),
        sources(None),
    )
    .unwrap_err();
    assert!(
        matches!(&both, ServeError::Rules(Mistakes(mistakes)) if mistakes[0].path == "upstream.discover"),
        "{both:?}"
    );
    let twice = resolve(&args(&["--upstream=https://x,https://x"]), sources(None)).unwrap_err();
    assert!(
        matches!(&twice, ServeError::Rules(Mistakes(mistakes)) if mistakes[0].path == "upstream.servers"),
        "{twice:?}"
    );
}

#[test]
fn every_other_flag_wins_over_the_file() {
    let flags = args(&[
        "--mode=off",
        "--upstream-pin=none",
        "--bind-address=::1",
        "--secure-port=0",
        "--tls-cert-file=c",
        "--tls-private-key-file=k",
        "--self-signed-dir=d",
        "--self-signed-hosts=x,::1",
        "--token-file=t",
        "--admin-bind-address=127.0.0.1:0",
        "--log-format=json",
        "--log-level=debug",
    ]);
    let config = resolve(
        &flags,
        ServeSources {
            file: file(),
            ..ServeSources::default()
        },
    )
    .unwrap();
    assert_eq!((config.mode, config.upstream.pin), (Mode::Off, Pin::None));
    assert_eq!(
        (
            config.serving.bind_address.to_string(),
            config.serving.secure_port
        ),
        ("::1".to_owned(), 0)
    );
    assert_eq!(config.serving.tls_cert_file, Some("c".into()));
    assert_eq!(config.serving.tls_private_key_file, Some("k".into()));
    assert_eq!(config.serving.self_signed.directory, Some("d".into()));
    assert_eq!(config.serving.self_signed.hosts, ["x", "::1"]);
    assert_eq!(config.serving.self_signed.token_file.to_str(), Some("t"));
    assert_eq!(config.admin.bind_address.to_string(), "127.0.0.1:0");
    assert_eq!(
        (config.logging.format, config.logging.level.as_str()),
        (LogFormat::Json, "debug")
    );
}

#[test]
fn without_flags_the_file_applies() {
    let config = resolve(
        &args(&[]),
        ServeSources {
            file: file(),
            ..ServeSources::default()
        },
    )
    .unwrap();
    assert_eq!(config, file());
}

#[test]
fn verbosity_is_klogs() {
    every(
        [("0", "info"), ("2", "info"), ("4", "debug"), ("9", "trace")],
        |(number, level)| {
            let config = resolve(
                &args(&["-v", number]),
                ServeSources {
                    file: file(),
                    ..ServeSources::default()
                },
            )
            .unwrap();
            assert_eq!(config.logging.level, level);
            assert_eq!(
                args(&[&format!("--v={number}")]).verbosity,
                args(&["-v", number]).verbosity
            );
        },
    );
}

#[test]
fn errors_name_the_missing_setting() {
    let error = resolve(&args(&[]), ServeSources::default()).unwrap_err();
    assert!(error.to_string().contains("--upstream"), "{error}");
    let error = resolve(&args(&["--upstream", "https://h"]), ServeSources::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("no CA verifies https://h/: give --upstream-ca-file"),
        "{error}"
    );
    resolve(&args(&["--upstream", "http://h"]), ServeSources::default()).unwrap();
    let behind_a_path = ApiserverEndpoint {
        server: "https://rancher/k8s/clusters/c-1".into(),
        ..endpoint()
    };
    let error = resolve(
        &args(&[]),
        ServeSources {
            kubeconfig: Some(behind_a_path),
            ..ServeSources::default()
        },
    )
    .unwrap_err();
    assert!(error.to_string().contains("without path"), "{error}");
}

#[test]
fn flags_that_break_a_rule_with_the_file_are_refused() {
    let flags = args(&[
        "--admin-bind-address",
        "0.0.0.0:8443",
        "--upstream",
        "http://h",
    ]);
    let error = resolve(&flags, ServeSources::default()).unwrap_err();
    assert!(
        matches!(&error, ServeError::Rules(Mistakes(mistakes)) if mistakes[0].path == "admin.bindAddress"),
        "{error:?}"
    );
}

#[test]
fn the_help_says_what_holds_without_a_flag() {
    let mut command = <Cli as clap::CommandFactory>::command();
    let serve = command.find_subcommand_mut("serve").unwrap();
    let help = |flag: &str| {
        let found = serve
            .get_arguments()
            .find(|arg| arg.get_long() == Some(flag));
        found.unwrap().get_help().unwrap().to_string()
    };
    every(
        [
            ("secure-port", "[default: 8443]"),
            ("upstream-server-name", "it is the host of each URL"),
            ("upstream-discover", "upstream.discoverTokenFile"),
            ("tls-cert-file", "the proxy signs its own certificate"),
            ("self-signed-hosts", "the server in the kubeconfig"),
        ],
        |(flag, words)| assert!(help(flag).contains(words), "{}", help(flag)),
    );
}

#[test]
fn wrong_usage_is_refused() {
    every(
        [
            &["--tls-cert-file=c"][..],
            &["--tls-private-key-file=k"],
            &["--context=c"],
            &["--upstream=https://h/path"],
            &["--upstream=https://me:secret@h"],
            &["--mode=maybe"],
            &["--upstream-pin=pod"],
            &["--upstream=https://h,"],
            &["--log-level=loud"],
            &["--log-level=info", "-v4"],
            &["--self-signed-hosts=a:80"],
            &["--bind-address=localhost"],
        ],
        |wrong| {
            Cli::try_parse_from(["kube-retry-proxy", "serve"].iter().chain(wrong))
                .map(|_| panic!("{wrong:?}"))
                .unwrap_err();
        },
    );
}

#[test]
fn files_are_read_where_the_flags_say() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(
        path("config.yaml"),
        "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\nmode: Off\n",
    )
    .unwrap();
    std::fs::write(
        path("kubeconfig"),
        "current-context: a\nclusters: [{name: a, cluster: {server: 'https://a:6443', certificate-authority: ca.crt}}]\n\
         contexts: [{name: a, context: {cluster: a}}]\n",
    )
    .unwrap();
    let flag = |name: &str, file: &str| format!("--{name}={}", path(file).display());
    let config = load(&args(&[
        &flag("config", "config.yaml"),
        &flag("kubeconfig", "kubeconfig"),
    ]))
    .unwrap();
    assert_eq!(
        (config.mode, url(&config)),
        (Mode::Off, "https://a:6443/".to_owned())
    );
    assert_eq!(config.upstream.ca, Some(CaSource::File(path("ca.crt"))));
    assert!(matches!(
        load(&args(&[&flag("config", "nowhere")])),
        Err(ServeError::File(_))
    ));
    assert!(matches!(
        load(&args(&[&flag("kubeconfig", "nowhere")])),
        Err(ServeError::Kubeconfig(_))
    ));
}
