//! New kubeconfigs and rewritten ones.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::kubeconfig::compose::compose;

mod embedding;

const PROXY: ProxyEndpoint<'static> = ProxyEndpoint {
    server: "https://127.0.0.1:8443",
    ca: Some(b"pem"),
};

const ORIGINAL: &str = r#"
apiVersion: v1
kind: Config
preferences: {colors: true}
current-context: prod
clusters:
- name: prod
  cluster:
    server: https://apiserver:6443
    certificate-authority: ca.crt
    insecure-skip-tls-verify: true
    tls-server-name: kubernetes
    proxy-url: http://corporate:3128
    disable-compression: true
    extensions: [{name: minikube, extension: {provider: docker}}]
- name: other
  cluster: {server: "https://other", certificate-authority: other.crt}
contexts:
- name: prod
  context: {cluster: prod, user: admin, namespace: argo}
- name: prod-robot
  context: {cluster: prod, user: robot}
- name: other
  context: {cluster: other, user: certified-elsewhere}
users:
- name: admin
  user: {client-certificate-data: Y2VydA==, client-key-data: a2V5, as: somebody}
- name: robot
  user: {tokenFile: token, client-certificate: also.crt}
- name: helper
  user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: ./login, args: [a]}}
- name: certified-elsewhere
  user: {client-certificate: x.crt}
"#;

/// Users that reach the cluster `prod` in all ways that the proxy does not know of.
const USERS: &str = r#"
apiVersion: v1
kind: Config
current-context: c
clusters:
- name: c
  cluster: {server: "https://apiserver:6443"}
contexts:
- name: c
  context: {cluster: c, user: exec, namespace: "no", extensions: [{name: e, extension: {a: 1}}]}
- name: d
  context: {cluster: c, user: provider}
users:
- name: exec
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: aws
      args: [eks, get-token, --cluster-name, "0123"]
      env: [{name: AWS_PROFILE, value: "on"}]
      interactiveMode: IfAvailable
      provideClusterInfo: true
      installHint: "two\nlines"
      unknown: {a: [1, 2.5, true, null]}
- name: provider
  user:
    auth-provider: {name: oidc, config: {id-token: "1e3", idp-issuer-url: "https://issuer"}}
    as: somebody
    as-groups: [a, "yes"]
    as-user-extra: {scopes: ["0x1f"]}
- name: elsewhere
  user: {username: "true", password: ".inf", token: "1_000"}
extensions:
- {name: e, extension: text}
"#;

/// A directory with the file `config`.
fn place(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config"), text).unwrap();
    directory
}

fn load(directory: &tempfile::TempDir) -> Kubeconfig {
    Kubeconfig::load(&directory.path().join("config")).unwrap()
}

fn tree(text: &str) -> Value {
    Kubeconfig::parse(text.as_bytes()).unwrap().to_json()
}

/// The tree of the rewritten file, with the directory as `/home`, and the warnings.
fn rewritten(
    text: &str,
    context: Option<&str>,
    embed: Option<SystemTime>,
) -> (Value, Vec<Warning>) {
    let directory = place(text);
    fs::write(directory.path().join("token"), "its-token").unwrap();
    let rewritten = rewrite(&load(&directory), context, PROXY, embed).unwrap();
    let path = directory.path().display().to_string();
    (
        tree(&rewritten.text.replace(&path, "/home")),
        rewritten.warnings,
    )
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn a_new_kubeconfig_names_the_proxy_and_the_token_file() {
    let new = NewKubeconfig {
        token_file: Path::new("/var/run/token"),
        namespace: Some("argo"),
        embed: None,
    };
    let written = new_kubeconfig(PROXY, new).unwrap();
    assert_eq!(written.warnings, []);
    let tree = tree(&written.text);
    assert_eq!(
        tree["clusters"][0]["cluster"],
        json!({"server": "https://127.0.0.1:8443", "certificate-authority-data": "cGVt"})
    );
    assert_eq!(
        tree["users"][0]["user"],
        json!({"tokenFile": "/var/run/token"})
    );
    assert_eq!(tree["contexts"][0]["context"]["namespace"], "argo");

    let relative = NewKubeconfig {
        token_file: Path::new("token"),
        ..new
    };
    let written = new_kubeconfig(PROXY, relative).unwrap();
    let here = std::env::current_dir().unwrap().join("token");
    assert!(
        written.text.contains(&here.display().to_string()),
        "the kubeconfig may be elsewhere: {}",
        written.text
    );
}

#[test]
fn a_rewritten_cluster_points_at_the_proxy_and_keeps_unknown_fields() {
    let (tree, _) = rewritten(ORIGINAL, None, None);
    assert_eq!(
        tree["clusters"][0]["cluster"],
        json!({
            "server": "https://127.0.0.1:8443",
            "certificate-authority-data": "cGVt",
            "disable-compression": true,
            "extensions": [{"name": "minikube", "extension": {"provider": "docker"}}],
        })
    );
    assert_eq!(tree["preferences"]["colors"], true);
}

#[test]
fn other_fields_stay_and_relative_paths_become_absolute() {
    let (rewritten, _) = rewritten(ORIGINAL, None, None);
    let original = tree(ORIGINAL);
    assert_eq!(rewritten["contexts"], original["contexts"]);
    assert_eq!(rewritten["current-context"], "prod");
    assert_eq!(rewritten["users"][0], original["users"][0]);
    assert_eq!(rewritten["users"][1]["user"]["tokenFile"], "/home/token");
    assert_eq!(
        rewritten["users"][2]["user"]["exec"]["command"],
        "/home/login"
    );
    assert_eq!(
        rewritten["clusters"][1]["cluster"],
        json!({"server": "https://other", "certificate-authority": "/home/other.crt"})
    );
}

#[test]
fn exec_and_auth_provider_and_all_other_fields_of_users_stay() {
    let (rewritten, warnings) = rewritten(USERS, None, Some(at(0)));
    let original = tree(USERS);
    for list in ["users", "contexts", "extensions"] {
        assert_eq!(rewritten[list], original[list]);
    }
    assert_eq!(
        warnings,
        [Warning::NothingToEmbed {
            user: "exec".into()
        }]
    );
}

#[test]
fn a_named_context_decides_the_cluster_and_becomes_current() {
    let (tree, warnings) = rewritten(ORIGINAL, Some("other"), None);
    assert_eq!(tree["current-context"], "other");
    assert_eq!(tree["clusters"][1]["cluster"]["server"], PROXY.server);
    assert_eq!(
        tree["clusters"][0]["cluster"]["server"],
        "https://apiserver:6443"
    );
    assert_eq!(
        warnings,
        [Warning::ClientCertificate {
            user: "certified-elsewhere".into()
        }]
    );
}

#[test]
fn warns_of_users_with_only_a_client_certificate() {
    let (_, warnings) = rewritten(ORIGINAL, None, None);
    assert_eq!(
        warnings,
        [Warning::ClientCertificate {
            user: "admin".into()
        }]
    );
    let shown = warnings[0].to_string();
    assert!(shown.contains("user 'admin'"), "{shown}");
}

#[test]
fn warns_of_a_context_without_its_user() {
    for (user, words) in [
        (
            "user: lost",
            "names the user 'lost', which the kubeconfig does not have",
        ),
        (
            "namespace: team",
            "names no user, so clients send no credentials",
        ),
    ] {
        let (_, warnings) = rewritten(
            &format!(
                "current-context: c\nclusters: [{{name: c, cluster: {{server: h}}}}]\n\
                 contexts: [{{name: c, context: {{cluster: c, {user}}}}}]\n"
            ),
            None,
            None,
        );
        let shown: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(shown, [format!("context 'c' {words}")]);
    }
}

#[test]
fn warns_of_a_server_without_tls() {
    let proxy = ProxyEndpoint {
        server: "http://127.0.0.1:8001",
        ca: None,
    };
    let new = NewKubeconfig {
        token_file: Path::new("/t"),
        namespace: None,
        embed: None,
    };
    assert_eq!(
        new_kubeconfig(proxy, new).unwrap().warnings,
        [Warning::PlainServer]
    );
    let original = load(&place(ORIGINAL));
    let rewritten = rewrite(&original, None, proxy, None).unwrap();
    assert!(rewritten.warnings.contains(&Warning::PlainServer));
}

/// The parts are merged as `KUBECONFIG=a:b` is, and what a file hides is not written.
#[test]
fn a_list_becomes_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write(
        "a",
        "clusters: [{name: c, cluster: {server: a, odd: 1}}]\nusers: [{name: u, user: {token: a}}]\nown: 1\n",
    );
    write(
        "b",
        "current-context: c\nclusters: [{name: c, cluster: {server: b}}, {name: d, cluster: {server: d}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {token: b}}, {name: v, user: {tokenFile: t}}]\nown: 2\nother: 3\n",
    );
    let list = format!("{0}/a:{0}/b:{0}/missing", directory.path().display());
    let original = Kubeconfig::load(Path::new(&list)).unwrap();
    let written = rewrite(&original, None, PROXY, None).unwrap();
    let path = directory.path().display().to_string();
    assert_eq!(
        tree(&written.text.replace(&path, "/home")),
        json!({
            "clusters": [
                {"name": "c", "cluster": {"server": PROXY.server, "odd": 1, "certificate-authority-data": "cGVt"}},
                {"name": "d", "cluster": {"server": "d"}},
            ],
            "users": [{"name": "u", "user": {"token": "a"}}, {"name": "v", "user": {"tokenFile": "/home/t"}}],
            "own": 1,
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "other": 3,
        })
    );
}

#[test]
fn odd_files_are_rewritten_with_a_warning() {
    let directory = place(&(ORIGINAL.to_owned() + "current-context: other\n---\na: 1\n"));
    let rewritten = rewrite(&load(&directory), None, PROXY, None).unwrap();
    let config = directory.path().join("config");
    let shown: Vec<_> = rewritten.warnings[..2]
        .iter()
        .map(|warning| {
            warning
                .to_string()
                .replace(&config.display().to_string(), "config")
        })
        .collect();
    assert_eq!(
        shown,
        [
            "config:34: the mapping has this key twice; the last one counts",
            "config:35: another document begins; only the first one counts",
        ]
    );
    assert_eq!(tree(&rewritten.text)["current-context"], "other");
}

#[test]
fn what_is_written_is_one_document_that_yaml_1_1_reads_the_same() {
    let directory = place(USERS);
    let written = rewrite(&load(&directory), None, PROXY, None).unwrap().text;
    for quoted in [
        "\"no\"",
        "\"0123\"",
        "\"on\"",
        "\"1e3\"",
        "\"yes\"",
        "\"0x1f\"",
        "\"true\"",
        "\".inf\"",
        "\"1_000\"",
    ] {
        assert!(written.contains(quoted), "{quoted} in\n{written}");
    }
    let Ok(document) = compose(&written) else {
        panic!("{written}");
    };
    assert_eq!(document.oddities, []);
}

#[test]
fn secrets_do_not_show_in_errors() {
    for text in [
        "users: {token: hunter2\n",
        "users: [{user: {token: [hunter2]}}]\n",
    ] {
        let error = Kubeconfig::parse(text.as_bytes()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}
