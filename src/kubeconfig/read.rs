//! Reads the server of a context and its CA.
//!
//! Like client-go's `clientcmd`, it prefers inline data to a file and resolves relative paths from
//! the directory of the kubeconfig
//! (<https://github.com/kubernetes/client-go/blob/v0.32.0/tools/clientcmd/client_config.go#L166>).

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::KubeconfigError;
use crate::config::{CaSource, yaml};

/// The URL of an apiserver and the CA that verifies its certificate, without credentials.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiserverEndpoint {
    /// The `server` of the cluster, unchanged.
    pub server: String,
    /// `certificate-authority-data`, or else `certificate-authority`. None: the cluster has
    /// neither.
    pub ca: Option<CaSource>,
    /// `tls-server-name`, the name to expect in the certificate.
    pub server_name: Option<String>,
}

/// The endpoint of `context` in the kubeconfig at `path`. None: the current context.
pub fn read_endpoint(
    path: &Path,
    context: Option<&str>,
) -> Result<ApiserverEndpoint, KubeconfigError> {
    let text = fs::read_to_string(path).map_err(|source| KubeconfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let tree = yaml::parse_value(&text).map_err(KubeconfigError::Syntax)?;
    let (name, cluster) = cluster_of(&tree, context)?;
    endpoint(&name, cluster, path.parent().unwrap_or(Path::new("")))
}

fn endpoint(
    name: &str,
    cluster: &Value,
    directory: &Path,
) -> Result<ApiserverEndpoint, KubeconfigError> {
    let field = |field, expected| KubeconfigError::Field {
        cluster: name.to_owned(),
        field,
        expected,
    };
    let server = text(cluster, "server").ok_or_else(|| {
        field(
            "server",
            "the URL of the apiserver, like https://10.0.0.1:6443",
        )
    })?;
    if text(cluster, "proxy-url").is_some() {
        return Err(field(
            "proxy-url",
            "none: the apiserver must be reachable directly",
        ));
    }
    let ca = match (
        text(cluster, "certificate-authority-data"),
        text(cluster, "certificate-authority"),
    ) {
        (Some(data), _) => {
            let pem = STANDARD
                .decode(data.trim())
                .map_err(|source| KubeconfigError::Base64 {
                    cluster: name.to_owned(),
                    source,
                })?;
            Some(CaSource::Pem(pem))
        }
        (None, Some(file)) => Some(CaSource::File(directory.join(file))),
        (None, None) => None,
    };
    Ok(ApiserverEndpoint {
        server: server.to_owned(),
        ca,
        server_name: text(cluster, "tls-server-name").map(str::to_owned),
    })
}

/// The name and the body of the cluster of a context.
pub(super) fn cluster_of<'t>(
    tree: &'t Value,
    context: Option<&str>,
) -> Result<(String, &'t Value), KubeconfigError> {
    if !tree.is_object() {
        return Err(KubeconfigError::NotAKubeconfig);
    }
    let name = match context.or_else(|| text(tree, "current-context")) {
        Some(name) => name,
        None => {
            return Err(KubeconfigError::NoContext {
                known: known(tree, "contexts"),
            });
        }
    };
    let Some(context) = named(tree, "contexts", "context", name) else {
        return Err(KubeconfigError::UnknownContext {
            name: name.to_owned(),
            known: known(tree, "contexts"),
        });
    };
    let cluster = text(context, "cluster").unwrap_or_default();
    match named(tree, "clusters", "cluster", cluster) {
        Some(body) => Ok((cluster.to_owned(), body)),
        None => Err(KubeconfigError::UnknownCluster {
            context: name.to_owned(),
            cluster: cluster.to_owned(),
        }),
    }
}

/// The body of an entry of a named list, as in `clusters: [{name: NAME, cluster: BODY}]`.
pub(super) fn named<'t>(tree: &'t Value, list: &str, body: &str, name: &str) -> Option<&'t Value> {
    tree.get(list)?
        .as_array()?
        .iter()
        .find(|entry| text(entry, "name") == Some(name))?
        .get(body)
}

/// The text of a field. An empty text counts as absent, as in client-go.
pub(super) fn text<'t>(value: &'t Value, field: &str) -> Option<&'t str> {
    value.get(field)?.as_str().filter(|text| !text.is_empty())
}

fn known(tree: &Value, list: &str) -> Vec<String> {
    let entries = tree
        .get(list)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| text(entry, "name"))
        .map(str::to_owned)
        .collect()
}

/// A path of the file as an absolute path.
pub(super) fn absolute(directory: &Path, path: &str) -> PathBuf {
    let joined = directory.join(path);
    std::path::absolute(&joined).unwrap_or(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
apiVersion: v1
kind: Config
current-context: one
clusters:
- name: first
  cluster: {server: "https://one:6443", certificate-authority: pki/ca.crt, tls-server-name: kubernetes}
- name: second
  cluster: {server: "https://two:6443", certificate-authority-data: cGVt, certificate-authority: ignored}
- name: third
  cluster: {server: "https://three", proxy-url: "socks5://p:1080"}
contexts:
- {name: one, context: {cluster: first, user: me}}
- {name: two, context: {cluster: second, user: me}}
- {name: three, context: {cluster: third, user: me}}
- {name: lost, context: {cluster: nowhere, user: me}}
users:
- {name: me, user: {token: secret}}
"#;

    fn read(text: &str, context: Option<&str>) -> Result<ApiserverEndpoint, KubeconfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        fs::write(&path, text).unwrap();
        let mut endpoint = read_endpoint(&path, context)?;
        if let Some(CaSource::File(file)) = &mut endpoint.ca {
            *file = file.strip_prefix(directory.path()).unwrap().to_owned();
        }
        Ok(endpoint)
    }

    #[test]
    fn takes_the_current_context_and_paths_relative_to_the_file() {
        assert_eq!(
            read(FILE, None).unwrap(),
            ApiserverEndpoint {
                server: "https://one:6443".into(),
                ca: Some(CaSource::File("pki/ca.crt".into())),
                server_name: Some("kubernetes".into()),
            }
        );
    }

    #[test]
    fn takes_a_named_context_and_prefers_inline_data() {
        assert_eq!(
            read(FILE, Some("two")).unwrap(),
            ApiserverEndpoint {
                server: "https://two:6443".into(),
                ca: Some(CaSource::Pem(b"pem".to_vec())),
                server_name: None
            }
        );
    }

    #[test]
    fn errors_name_the_missing_part() {
        let message = |text: &str, context| read(text, context).unwrap_err().to_string();
        assert_eq!(
            message(FILE, Some("four")),
            "the kubeconfig has no context 'four' (it has one, two, three, lost)"
        );
        assert!(message(FILE, Some("lost")).contains("names the cluster 'nowhere'"));
        assert!(message(FILE, Some("three")).contains("proxy-url"));
        assert!(message("contexts: []", None).contains("no current-context"));
        assert!(message("[]", None).contains("expected a kubeconfig"));
        assert!(message("a: [", None).contains("not valid YAML"));
        assert!(message(&FILE.replace("cGVt", "?"), Some("two")).contains("not base64"));
        assert!(
            message(&FILE.replace("server: \"https://one:6443\", ", ""), None)
                .contains("expected the URL of the apiserver")
        );
        let missing = read_endpoint(Path::new("/nowhere/config"), None).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read /nowhere/config");
    }
}
