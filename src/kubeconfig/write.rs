//! Writes a new kubeconfig for a token file, or points the cluster of an existing one at the proxy.
//!
//! Clients need a kubeconfig to use the proxy. With `--server` alone they lose the in-cluster
//! token, and for an `http://` server they send no credentials
//! (<https://github.com/kubernetes/client-go/blob/v0.32.0/tools/clientcmd/client_config.go#L199>).

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::KubeconfigError;
use super::read::{absolute, cluster_of, text};
use crate::config::yaml;

const NAME: &str = "kube-retry-proxy";

/// How clients reach the proxy.
#[derive(Debug, Clone, Copy)]
pub struct ProxyEndpoint<'a> {
    /// The proxy's URL, `https://host:port`.
    pub server: &'a str,
    /// PEM certificates that verify the proxy. None: the CAs of the client's system.
    pub ca: Option<&'a [u8]>,
}

/// A finished kubeconfig, and warnings for its owner.
#[derive(Debug)]
pub struct Rewritten {
    /// The kubeconfig as YAML.
    pub text: String,
    /// Parts of the kubeconfig that will not work through the proxy.
    pub warnings: Vec<Warning>,
}

/// Something in a kubeconfig that will not work through the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// This user has only a client certificate.
    ClientCertificate {
        /// The user's name in the file.
        user: String,
    },
    /// The server's URL begins with `http://`.
    PlainServer,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientCertificate { user } => write!(
                f,
                "user '{user}' authenticates with a client certificate, which cannot pass through the proxy because TLS ends there; use a token \
                 instead, for example from `kubectl create token`, or a tokenFile"
            ),
            Self::PlainServer => f.write_str(
                "the server begins with http://, so clients send no credentials; use https://",
            ),
        }
    }
}

/// A new kubeconfig whose user authenticates with `token_file`. `namespace` becomes its default
/// one.
pub fn with_token_file(
    proxy: ProxyEndpoint<'_>,
    token_file: &Path,
    namespace: Option<&str>,
) -> Result<Rewritten, KubeconfigError> {
    let mut cluster = Map::new();
    point_at(&mut cluster, proxy);
    let mut context = json!({"cluster": NAME, "user": NAME});
    if let Some(namespace) = namespace {
        context["namespace"] = json!(namespace);
    }
    let tree = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": NAME,
        "clusters": [{"name": NAME, "cluster": cluster}],
        "contexts": [{"name": NAME, "context": context}],
        "users": [{"name": NAME, "user": {"tokenFile": token_file}}],
    });
    finish(&tree, plain(proxy))
}

/// The kubeconfig `original`, with the cluster of `context` pointed at the proxy and that context
/// made the current one. None: the current context.
///
/// Everything else stays: other clusters, users, namespaces and unknown fields. Relative paths
/// become absolute, since the new file may be in another directory than the original in
/// `directory`.
pub fn rewrite(
    original: &str,
    directory: &Path,
    context: Option<&str>,
    proxy: ProxyEndpoint<'_>,
) -> Result<Rewritten, KubeconfigError> {
    let mut tree = yaml::parse_value(original).map_err(KubeconfigError::Syntax)?;
    let (cluster, _) = cluster_of(&tree, context)?;
    let mut warnings = plain(proxy);
    warnings
        .extend(certificate_users(&tree, &cluster).map(|user| Warning::ClientCertificate { user }));

    resolve_paths(&mut tree, directory);
    for entry in
        entries(&mut tree, "clusters").filter(|entry| text(entry, "name") == Some(&cluster))
    {
        if let Some(body) = entry.get_mut("cluster").and_then(Value::as_object_mut) {
            point_at(body, proxy);
        }
    }
    if let Some(context) = context {
        tree["current-context"] = json!(context);
    }
    finish(&tree, warnings)
}

fn point_at(cluster: &mut Map<String, Value>, proxy: ProxyEndpoint<'_>) {
    for field in [
        "certificate-authority",
        "certificate-authority-data",
        "insecure-skip-tls-verify",
        "tls-server-name",
        "proxy-url",
    ] {
        cluster.remove(field);
    }
    cluster.insert("server".into(), json!(proxy.server));
    if let Some(ca) = proxy.ca {
        cluster.insert(
            "certificate-authority-data".into(),
            json!(STANDARD.encode(ca)),
        );
    }
}

fn plain(proxy: ProxyEndpoint<'_>) -> Vec<Warning> {
    let plain = proxy
        .server
        .get(..7)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
    if plain {
        vec![Warning::PlainServer]
    } else {
        Vec::new()
    }
}

/// The users of `cluster`, in any context, that have a client certificate and no other credentials.
fn certificate_users(tree: &Value, cluster: &str) -> impl Iterator<Item = String> {
    let list = |name: &str| {
        tree.get(name)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
    };
    let concerned: Vec<&str> = list("contexts")
        .iter()
        .filter_map(|entry| entry.get("context"))
        .filter(|context| text(context, "cluster") == Some(cluster))
        .filter_map(|context| text(context, "user"))
        .collect();
    list("users").iter().filter_map(move |entry| {
        let (name, user) = (text(entry, "name")?, entry.get("user")?);
        let any = |fields: &[&str]| {
            fields
                .iter()
                .any(|field| user.get(field).is_some_and(|value| !value.is_null()))
        };
        let only_certificate = any(&["client-certificate", "client-certificate-data"])
            && !any(&["token", "tokenFile", "username", "exec", "auth-provider"]);
        (concerned.contains(&name) && only_certificate).then(|| name.to_owned())
    })
}

fn resolve_paths(tree: &mut Value, directory: &Path) {
    for (list, body, fields) in [
        ("clusters", "cluster", &["certificate-authority"][..]),
        (
            "users",
            "user",
            &["client-certificate", "client-key", "tokenFile"][..],
        ),
    ] {
        for entry in entries(tree, list) {
            let Some(body) = entry.get_mut(body) else {
                continue;
            };
            for field in fields {
                resolve_path(body, field, directory);
            }
            // client-go looks a command without a slash up in PATH.
            if let Some(exec) = body
                .get_mut("exec")
                .filter(|exec| text(exec, "command").is_some_and(|command| command.contains('/')))
            {
                resolve_path(exec, "command", directory);
            }
        }
    }
}

fn resolve_path(body: &mut Value, field: &str, directory: &Path) {
    if let Some(path) = text(body, field) {
        body[field] = json!(absolute(directory, path));
    }
}

fn entries<'t>(tree: &'t mut Value, list: &str) -> impl Iterator<Item = &'t mut Value> {
    tree.get_mut(list)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

fn finish(tree: &Value, warnings: Vec<Warning>) -> Result<Rewritten, KubeconfigError> {
    Ok(Rewritten {
        text: yaml::to_string(tree).map_err(KubeconfigError::Write)?,
        warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn rewritten(context: Option<&str>) -> (Value, Vec<Warning>) {
        let rewritten = rewrite(ORIGINAL, Path::new("/home/me/.kube"), context, PROXY).unwrap();
        (
            yaml::parse_value(&rewritten.text).unwrap(),
            rewritten.warnings,
        )
    }

    #[test]
    fn a_new_kubeconfig_names_the_proxy_and_the_token_file() {
        let written = with_token_file(PROXY, Path::new("/var/run/token"), Some("argo")).unwrap();
        assert_eq!(written.warnings, []);
        let tree = yaml::parse_value(&written.text).unwrap();
        assert_eq!(
            tree["clusters"][0]["cluster"],
            json!({"server": "https://127.0.0.1:8443", "certificate-authority-data": "cGVt"})
        );
        assert_eq!(
            tree["users"][0]["user"],
            json!({"tokenFile": "/var/run/token"})
        );
        assert_eq!(tree["contexts"][0]["context"]["namespace"], "argo");
    }

    #[test]
    fn a_rewritten_cluster_points_at_the_proxy_and_keeps_unknown_fields() {
        let (tree, _) = rewritten(None);
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
        let (tree, _) = rewritten(None);
        let original = yaml::parse_value(ORIGINAL).unwrap();
        assert_eq!(tree["contexts"], original["contexts"]);
        assert_eq!(tree["current-context"], "prod");
        assert_eq!(tree["users"][0], original["users"][0]);
        assert_eq!(
            tree["users"][1]["user"]["tokenFile"],
            "/home/me/.kube/token"
        );
        assert_eq!(
            tree["users"][2]["user"]["exec"]["command"],
            "/home/me/.kube/./login".replace("/./", "/")
        );
        assert_eq!(
            tree["clusters"][1]["cluster"],
            json!({"server": "https://other", "certificate-authority": "/home/me/.kube/other.crt"})
        );
    }

    #[test]
    fn a_named_context_decides_the_cluster_and_becomes_current() {
        let (tree, warnings) = rewritten(Some("other"));
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
        let (_, warnings) = rewritten(None);
        assert_eq!(
            warnings,
            [Warning::ClientCertificate {
                user: "admin".into()
            }]
        );
        assert!(
            warnings[0].to_string().contains("user 'admin'"),
            "{}",
            warnings[0]
        );
    }

    #[test]
    fn warns_of_a_server_without_tls() {
        let proxy = ProxyEndpoint {
            server: "http://127.0.0.1:8001",
            ca: None,
        };
        assert_eq!(
            with_token_file(proxy, Path::new("/t"), None)
                .unwrap()
                .warnings,
            [Warning::PlainServer]
        );
        assert!(
            rewrite(ORIGINAL, Path::new("/"), None, proxy)
                .unwrap()
                .warnings
                .contains(&Warning::PlainServer)
        );
    }

    #[test]
    fn secrets_do_not_show_in_debug_output_of_errors() {
        let error = rewrite("users: {token: hunter2\n", Path::new("/"), None, PROXY).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
