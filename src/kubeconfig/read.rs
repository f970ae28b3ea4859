//! Reads the server of a context and its CA.
//!
//! Like client-go's `clientcmd`, it prefers inline data to a file and resolves relative paths from
//! the directory of the file that names them
//! (<https://github.com/kubernetes/client-go/blob/v0.32.0/tools/clientcmd/client_config.go#L166>).

use std::path::Path;

use super::load::{Found, Kubeconfig};
use super::text::go_base64;
use super::{KubeconfigError, Place};
use crate::config::CaSource;

/// The URL of an apiserver and the CA that verifies its certificate, without credentials.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiserverEndpoint {
    /// The `server` of the cluster. One without `https://` or `http://` begins with `https://`.
    pub server: String,
    /// The file and the line of `server`.
    pub place: Place,
    /// `certificate-authority-data`, or else `certificate-authority`. None: the cluster has
    /// neither.
    pub ca: Option<CaSource>,
    /// `tls-server-name`, the name to expect in the certificate.
    pub server_name: Option<String>,
    /// `insecure-skip-tls-verify`. The proxy always verifies.
    pub insecure: bool,
}

/// The endpoint of `context` in the kubeconfig at `path`, which may be a list of files like
/// `a:b:c`. None: the current context.
pub fn read_endpoint(
    path: &Path,
    context: Option<&str>,
) -> Result<ApiserverEndpoint, KubeconfigError> {
    let kubeconfig = Kubeconfig::load(path)?;
    let (_, cluster) = cluster_of(&kubeconfig, context)?;
    endpoint(cluster)
}

fn endpoint(cluster: Found<'_>) -> Result<ApiserverEndpoint, KubeconfigError> {
    let field = |field, expected| KubeconfigError::Field {
        place: cluster.place(field),
        cluster: cluster.name().to_owned(),
        field,
        expected,
    };
    let server = cluster.text("server").ok_or_else(|| {
        field(
            "server",
            "the URL of the apiserver, like https://10.0.0.1:6443",
        )
    })?;
    if cluster.text("proxy-url").is_some() {
        return Err(field(
            "proxy-url",
            "none: the apiserver must be reachable directly",
        ));
    }
    // Reading the file has checked the base64.
    let inline = cluster
        .text("certificate-authority-data")
        .and_then(|data| go_base64(data).ok())
        .filter(|pem| !pem.is_empty());
    let ca = match inline {
        Some(pem) => Some(CaSource::Pem(pem)),
        None => cluster.path("certificate-authority").map(CaSource::File),
    };
    Ok(ApiserverEndpoint {
        // kubectl takes http:// for such a server if the cluster has no CA. The proxy never sends
        // the tokens of its clients without TLS unless it is told to.
        server: if server.contains("://") {
            server.to_owned()
        } else {
            format!("https://{server}")
        },
        place: cluster.place("server"),
        ca,
        server_name: cluster.text("tls-server-name").map(str::to_owned),
        insecure: cluster.flag("insecure-skip-tls-verify"),
    })
}

/// A context and its cluster. None: the current context.
pub(super) fn cluster_of<'t>(
    kubeconfig: &'t Kubeconfig,
    context: Option<&str>,
) -> Result<(Found<'t>, Found<'t>), KubeconfigError> {
    let known = || {
        let names = kubeconfig.entries("contexts").map(|entry| entry.name());
        names.map(str::to_owned).collect()
    };
    let Some(name) = context.or_else(|| kubeconfig.current_context()) else {
        return Err(KubeconfigError::NoContext { known: known() });
    };
    let Some(context) = kubeconfig.find("contexts", name) else {
        return Err(KubeconfigError::UnknownContext {
            name: name.to_owned(),
            known: known(),
        });
    };
    let cluster = context.text("cluster").unwrap_or_default();
    match kubeconfig.find("clusters", cluster) {
        Some(found) => Ok((context, found)),
        None => Err(KubeconfigError::UnknownCluster {
            place: context.place("cluster"),
            context: name.to_owned(),
            cluster: cluster.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::rows::every;

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
- name: fourth
  cluster: {server: "four:6443", insecure-skip-tls-verify: true, certificate-authority-data: "\n"}
- name: fifth
  cluster: {certificate-authority: ca.crt}
contexts:
- {name: one, context: {cluster: first, user: me}}
- {name: two, context: {cluster: second, user: me}}
- {name: three, context: {cluster: third, user: me}}
- {name: four, context: {cluster: fourth, user: me}}
- {name: five, context: {cluster: fifth, user: me}}
- {name: lost, context: {cluster: nowhere, user: me}}
users:
- {name: me, user: {token: secret}}
"#;

    fn read(text: &str, context: Option<&str>) -> Result<ApiserverEndpoint, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        fs::write(&path, text).unwrap();
        let shorter = |path: &Path| path.strip_prefix(directory.path()).unwrap().to_owned();
        let mut endpoint = read_endpoint(&path, context).map_err(|error| {
            error
                .to_string()
                .replace(&path.display().to_string(), "config")
        })?;
        if let Some(CaSource::File(file)) = &mut endpoint.ca {
            *file = shorter(file);
        }
        endpoint.place.path = shorter(&endpoint.place.path);
        Ok(endpoint)
    }

    fn expected(server: &str, line: u64, ca: Option<CaSource>) -> ApiserverEndpoint {
        ApiserverEndpoint {
            server: server.into(),
            place: Place::new(Path::new("config"), line),
            ca,
            server_name: None,
            insecure: false,
        }
    }

    #[test]
    fn takes_the_current_context_and_paths_relative_to_the_file() {
        assert_eq!(
            read(FILE, None).unwrap(),
            ApiserverEndpoint {
                server_name: Some("kubernetes".into()),
                ..expected(
                    "https://one:6443",
                    7,
                    Some(CaSource::File("pki/ca.crt".into()))
                )
            }
        );
    }

    #[test]
    fn takes_a_named_context_and_prefers_inline_data() {
        let inline = Some(CaSource::Pem(b"pem".to_vec()));
        assert_eq!(
            read(FILE, Some("two")).unwrap(),
            expected("https://two:6443", 9, inline)
        );
        assert_eq!(
            read(FILE, Some("four")).unwrap(),
            ApiserverEndpoint {
                insecure: true,
                ..expected("https://four:6443", 13, None)
            },
            "empty data is none, and no server is reached without TLS by accident"
        );
    }

    #[test]
    fn errors_name_the_missing_part_and_its_line() {
        every(
            [
                (
                    Some("six"),
                    "the kubeconfig has no context 'six' (it has one, two, three, four, five, lost)",
                ),
                (
                    Some("lost"),
                    "config:22: context 'lost' names the cluster 'nowhere', which the kubeconfig does not have",
                ),
                (
                    Some("three"),
                    "config:11: cluster 'third': proxy-url: expected none: the apiserver must be reachable directly",
                ),
                (
                    Some("five"),
                    "config:14: cluster 'fifth': server: expected the URL of the apiserver, like https://10.0.0.1:6443",
                ),
            ],
            |(context, message)| assert_eq!(read(FILE, context).unwrap_err(), message),
        );
        let none = read("contexts: []", None).unwrap_err();
        assert!(none.contains("no current-context"), "{none}");
        assert_eq!(read("\na: [", None).unwrap_err(), "config:2");
        let missing = read_endpoint(Path::new("/nowhere/config"), None).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read /nowhere/config");
    }

    /// Each file has a part. `b` sets what `a` has too, and a path of its own.
    #[test]
    fn a_list_of_files_counts_as_one() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let a = write(
            "a/config",
            "clusters: [{name: x, cluster: {server: 'https://a', certificate-authority: ca}}]",
        );
        let b = write(
            "b/config",
            "current-context: c\nclusters: [{name: x, cluster: {server: 'https://b'}}, {name: w, cluster: {server: 'https://w', certificate-authority: ca}}]",
        );
        let c = write(
            "c/config",
            "current-context: d\ncontexts: [{name: c, context: {cluster: x}}, {name: d, context: {cluster: w}}]",
        );
        let empty = write("empty", "");
        let broken = write("broken", "a: 1\nb: [");
        let read = |list: &str, context| {
            read_endpoint(Path::new(list), context)
                .map(|endpoint| match endpoint.ca {
                    Some(CaSource::File(ca)) => format!(
                        "{} {}",
                        endpoint.server,
                        ca.strip_prefix(directory.path()).unwrap().display()
                    ),
                    _ => endpoint.server,
                })
                .map_err(|error| error.to_string())
        };
        let ok = |text: &str| Ok(text.to_owned());
        every(
            [
                (format!("{a}:{b}:{c}"), None, ok("https://a a/ca")),
                (format!("{b}:{a}:{c}"), None, ok("https://b")),
                (format!("{c}:{b}:{a}"), None, ok("https://w b/ca")),
                (format!("{a}:{b}:{c}"), Some("d"), ok("https://w b/ca")),
                (
                    format!(":{a}::/nowhere:{empty}:{b}:{c}:{a}:"),
                    None,
                    ok("https://a a/ca"),
                ),
                (
                    "/nowhere:/no".into(),
                    None,
                    Err("no file of the list exists (/nowhere, /no)".to_owned()),
                ),
                (":".into(), None, Err("the list names no file".to_owned())),
                (format!("{a}:{broken}"), None, Err(format!("{broken}:2"))),
            ],
            |(list, context, expected)| assert_eq!(read(&list, context), expected),
        );
        let odd = write(
            "with:colon",
            "current-context: c\nclusters: [{name: x, cluster: {server: h}}]\ncontexts: [{name: c, context: {cluster: x}}]",
        );
        assert_eq!(
            read(&odd, None),
            ok("https://h"),
            "a file with such a name is a file"
        );
    }
}
