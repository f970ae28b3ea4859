//! Kubeconfigs as people have them: forms of files, lists of files, and tokens in them.

use std::fs;
use std::path::{Path, PathBuf};

use kube_retry_proxy::config::CaSource;
use kube_retry_proxy::kubeconfig::{Kubeconfig, read_endpoint};
use serde_json::json;

use crate::cases::every;
use crate::support::executable::{Place, Served, command, run, serve};

const TO: [&str; 4] = ["kubeconfig", "--server", "https://127.0.0.1:8443", "--from"];

fn sample(name: &str) -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/kubeconfig"
    ))
    .join(name)
}

fn list() -> String {
    ["clusters", "contexts", "users"]
        .map(|part| sample(&format!("list/{part}.yaml")).display().to_string())
        .join(":")
}

/// Every file with the server that kubectl takes from it. All have the same CA, which must be read
/// whole.
const FORMS: [(&str, &str); 21] = [
    ("ca-data-in-lines/binary-tag.yaml", "https://127.0.0.1:6443"),
    (
        "ca-data-in-lines/control-one-line.yaml",
        "https://127.0.0.1:6443",
    ),
    ("ca-data-in-lines/literal.yaml", "https://127.0.0.1:6443"),
    (
        "ca-data-in-lines/quoted-escapes.json",
        "https://127.0.0.1:6443",
    ),
    ("duplicate-keys/kind-twice.yaml", "https://127.0.0.1:6443"),
    ("duplicate-keys/server-twice.yaml", "https://127.0.0.1:6443"),
    (
        "several-documents/end-marker.yaml",
        "https://127.0.0.1:6443",
    ),
    (
        "several-documents/trailing-separator.yaml",
        "https://127.0.0.1:6443",
    ),
    ("several-documents/two.yaml", "https://127.0.0.1:6443"),
    ("other-forms/anchors.yaml", "https://127.0.0.1:6443"),
    ("other-forms/nulls.yaml", "https://127.0.0.1:6443"),
    ("other-forms/oc-login.yaml", "https://127.0.0.1:6443"),
    ("other-forms/tabs.json", "https://127.0.0.1:6443"),
    ("words-of-yaml-1.1/words.yaml", "https://127.0.0.1:6443"),
    ("server-forms/any-address.yaml", "https://0.0.0.0:6443"),
    ("server-forms/ipv6.yaml", "https://[::1]:6443"),
    ("server-forms/no-port.yaml", "https://127.0.0.1"),
    ("server-forms/no-scheme.yaml", "https://127.0.0.1:6443"),
    ("server-forms/trailing-dot.yaml", "https://localhost.:6443"),
    (
        "server-forms/trailing-slash.yaml",
        "https://127.0.0.1:6443/",
    ),
    ("server-forms/upper-case.yaml", "HTTPS://LOCALHOST:6443"),
];

#[tokio::test]
async fn files_are_read_as_kubectl_reads_them() {
    let ca = read_endpoint(&sample("ca-data-in-lines/control-one-line.yaml"), None)
        .unwrap()
        .ca;
    assert!(
        matches!(&ca, Some(CaSource::Pem(pem)) if pem.ends_with(b"-----END CERTIFICATE-----\n"))
    );
    every(FORMS, async |(name, server)| {
        let endpoint = read_endpoint(&sample(name), None).unwrap();
        assert_eq!((endpoint.server.as_str(), &endpoint.ca), (server, &ca));
    })
    .await;
    let whole = read_endpoint(Path::new(&list()), None).unwrap();
    assert_eq!((whole.server.as_str(), whole.ca), (FORMS[0].1, ca));
}

#[tokio::test]
async fn rewritten_files_lose_nothing() {
    every(FORMS, async |(name, _)| {
        let from = sample(name).display().to_string();
        let ended = run(command(&[&TO[..], &[&from]].concat())).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let read = |bytes: &[u8]| Kubeconfig::parse(bytes).unwrap().to_json();
        let (before, after) = (
            read(&fs::read(&from).unwrap()),
            read(ended.stdout.as_bytes()),
        );
        for part in ["users", "contexts", "current-context"] {
            assert_eq!(before[part], after[part], "{part}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_list_of_files_is_rewritten_to_one() {
    let ended = run(command(&[&TO[..], &[&list()]].concat())).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let tree = Kubeconfig::parse(ended.stdout.as_bytes())
        .unwrap()
        .to_json();
    assert_eq!(
        (&tree["users"], &tree["contexts"][0]["context"]),
        (
            &json!([{"name": "u", "user": {"token": "t-1"}}]),
            &json!({"cluster": "c", "user": "u", "namespace": "team"})
        )
    );
    assert_eq!(
        tree["clusters"],
        json!([{"name": "c", "cluster": {"server": "https://127.0.0.1:8443"}}])
    );
}

#[tokio::test]
async fn serve_takes_a_list_of_files_too() {
    let place = Place::new().await;
    let url = &place.plane.urls()[0];
    let clusters = place.write(
        "clusters",
        &format!("clusters: [{{name: c, cluster: {{server: '{url}', certificate-authority: upstream-ca.crt}}}}]"),
    );
    let contexts = place.write(
        "contexts",
        "current-context: c\ncontexts: [{name: c, context: {cluster: c}}]",
    );
    let served = Served::start(serve(&[
        "--kubeconfig",
        &format!("{clusters}:{contexts}:/nowhere"),
        "--self-signed-dir",
        &place.path(""),
    ]))
    .await;
    let created = place.client(&served).await.create("a").await;
    assert_eq!(created.status, http::StatusCode::CREATED);
    // Any free port, and the address on which the proxy listens.
    let written = read_endpoint(place.path("kubeconfig").as_ref(), None).unwrap();
    assert_eq!(written.server, format!("https://{}", served.address));
}

#[tokio::test]
async fn what_is_refused_is_refused_with_file_and_line() {
    let place = Place::new().await;
    let with = |cluster: &str| {
        format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: c}}}}]\nclusters:\n- name: c\n  cluster: {cluster}\n"
        )
    };
    let path = sample("server-forms/path.yaml").display().to_string();
    let rows = [
        (
            place.write("a", &with("{server: 5}")),
            5,
            "expected text, found a number",
        ),
        (
            place.write("b", &with("{server: h, proxy-url: p}")),
            5,
            "reachable directly",
        ),
        (
            place.write("c", &with("{server: h, insecure-skip-tls-verify: true}")),
            5,
            "--upstream-ca-file",
        ),
        (place.write("d", &with("{server: h")), 0, "has no end"),
        (
            place.write(
                "e",
                "current-context: c\ncontexts: [{name: c, context: {cluster: d}}]",
            ),
            2,
            "which the kubeconfig does not have",
        ),
        (path, 7, "without path"),
    ];
    every(rows, async |(file, line, words)| {
        let ended = run(serve(&["--kubeconfig", &file])).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        // Where something without an end should end, nobody can say.
        let line = if line > 0 {
            line.to_string()
        } else {
            String::new()
        };
        let place = format!("{file}:{line}");
        assert!(
            ended.stderr.contains(&place) && ended.stderr.contains(words),
            "{place}: {}",
            ended.stderr
        );
    })
    .await;
}

#[tokio::test]
async fn a_token_is_embedded_without_the_space_around_it() {
    let place = Place::new().await;
    let token = place.write("token", "sha256~its-token\n");
    let new = [
        "kubeconfig",
        "--server",
        "https://h",
        "--token-file",
        &token,
    ];
    let named = run(command(&new)).await;
    assert!(
        named.stdout.contains("tokenFile: ") && !named.stdout.contains("its-token"),
        "{}",
        named.stdout
    );
    assert!(named.stderr.contains("white space"), "{}", named.stderr);

    let output = place.path("embedded");
    let ended = run(command(
        &[&new[..], &["--embed-token", "--output", &output]].concat(),
    ))
    .await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
    assert!(
        ended.stderr.contains("does not say when it expires")
            && !ended.stderr.contains("its-token"),
        "{}",
        ended.stderr
    );
    let embedded = place.read("embedded");
    assert!(
        embedded.contains("token: sha256~its-token\n") && !embedded.contains("tokenFile"),
        "{embedded}"
    );
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(&output).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    fs::write(&token, "\n").unwrap();
    let refused = run(command(&[&new[..], &["--embed-token"]].concat())).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(
        refused.stderr.contains("expected one token"),
        "{}",
        refused.stderr
    );
}

#[tokio::test]
async fn serve_warns_of_a_token_file_with_white_space() {
    let place = Place::new().await;
    let token = place.write("token", "its-token\n");
    let served = place.served(&["--token-file", &token]).await;
    served.process.signal("TERM");
    let ended = served.process.ended().await;
    let warned = ended.stderr.matches("white space").count();
    assert_eq!(warned, 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains("its-token"), "{}", ended.stderr);
}
