//! How each client finds the address of the proxy and its token: who the apiserver takes it for,
//! for each way to lead a client to the proxy.

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use tempfile::TempDir;

use super::driver::{CLIENTS, Client, Credentials, Identity, kubeconfig};
use crate::control_plane::{ControlPlane, SERVERS};
use crate::proxy::Proxy;
use crate::table::Table;

pub fn trials() -> Vec<Trial> {
    vec![
        crate::trial("clients::short_set_finds_its_token", |plane| {
            found(plane, "How clients find their token, short set", |client| {
                client.short
            })
        }),
        crate::trial("clients::all_find_their_token", |plane| {
            found(plane, "How clients find their token", |_| true)
        })
        .with_ignored_flag(true),
    ]
}

/// Ways to lead a client to the proxy.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// A kubeconfig with the token in it.
    Embedded,
    /// A kubeconfig that names a file with the token.
    TokenFile,
    /// The same, and the file ends in a newline, as `kubectl create token > file` leaves it.
    TokenFileWithNewline,
    /// The variables and files of a pod.
    InCluster,
    /// The same, and the token ends in a newline. The kubelet writes none.
    InClusterWithNewline,
}

use Way::*;

const WAYS: [(Way, &str); 5] = [
    (Embedded, "`token`"),
    (TokenFile, "`tokenFile`"),
    (TokenFileWithNewline, "`tokenFile`, newline at the end"),
    (InCluster, "in-cluster"),
    (InClusterWithNewline, "in-cluster, newline at the end"),
];

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Found {
    /// The apiserver knows the user.
    User,
    /// The client sends no token.
    Anonymous,
    /// The client refuses to send the token.
    Refused,
}

/// The ways in which a client is not known as the user, by the beginning of its name. A client that
/// is not here is always.
const EXCEPTIONS: &[(&str, Way, Found)] = &[
    ("kubernetes (Python)", TokenFileWithNewline, Found::Refused),
    ("kubernetes (Python)", InClusterWithNewline, Found::Refused),
    ("kr8s", TokenFile, Found::Anonymous),
    ("kr8s", TokenFileWithNewline, Found::Anonymous),
    ("kr8s", InClusterWithNewline, Found::Refused),
    ("pykube-ng", TokenFile, Found::Anonymous),
    ("pykube-ng", TokenFileWithNewline, Found::Anonymous),
    ("pykube-ng", InClusterWithNewline, Found::Refused),
    ("fabric8", TokenFile, Found::Anonymous),
    ("fabric8", TokenFileWithNewline, Found::Anonymous),
    ("fabric8", InClusterWithNewline, Found::Refused),
    ("client-java", TokenFileWithNewline, Found::Refused),
    ("client-node", TokenFile, Found::Anonymous),
    ("client-node", TokenFileWithNewline, Found::Anonymous),
    ("Airflow", TokenFileWithNewline, Found::Refused),
    ("Airflow", InClusterWithNewline, Found::Refused),
];

fn found(plane: &ControlPlane, name: &'static str, wanted: impl Fn(&Client) -> bool) {
    let proxy = Proxy::start(plane, &plane.servers[..SERVERS], "");
    let mut columns = vec!["client"];
    columns.extend(WAYS.map(|(_, name)| name));
    let mut table = Table::new(name, &columns);
    let mut wrong = Vec::new();
    for client in CLIENTS.iter().filter(|client| wanted(client)) {
        let mut cells = vec![client.name.to_owned()];
        for (way, text) in WAYS {
            let identity = asked(plane, &proxy, client, way);
            let found = Found::of(&identity);
            let exception = EXCEPTIONS
                .iter()
                .find(|(of, when, _)| client.name.starts_with(of) && *when == way);
            let expected = exception.map_or(Found::User, |(_, _, found)| *found);
            if found != expected {
                wrong.push(format!(
                    "{}, {text}: {found:?}, expected {expected:?}: {}",
                    client.name,
                    identity.error.unwrap_or_default()
                ));
            }
            cells.push(format!("{found:?}").to_lowercase());
        }
        let cells: Vec<&dyn std::fmt::Display> = cells.iter().map(|cell| cell as _).collect();
        table.row(&cells);
    }
    table.print();
    proxy.stop();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

impl Found {
    fn of(identity: &Identity) -> Self {
        match (identity.user.as_deref(), identity.error.as_deref()) {
            _ if identity.allowed == Some(true) => Self::User,
            (Some("user"), _) => Self::User,
            (None, Some(error)) if !error.contains("system:anonymous") => Self::Refused,
            _ => Self::Anonymous,
        }
    }
}

/// A folder like that of a pod's service account, mounted where every client looks for it. The
/// mount is visible to the client alone.
const IN_A_POD: &str = "\
mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io && \
cp -r \"$0\" /run/secrets/kubernetes.io/serviceaccount && exec \"$@\"";

/// Who the apiserver takes a client for.
fn asked(plane: &ControlPlane, proxy: &Proxy, client: &Client, way: Way) -> Identity {
    let folder = TempDir::new().unwrap();
    let (file, authority) = (folder.path().join("token"), proxy.ca_file());
    let newline = matches!(way, TokenFileWithNewline | InClusterWithNewline);
    let token = plane.token("user");
    let ending = if newline { "\n" } else { "" };
    fs::write(&file, format!("{token}{ending}")).unwrap();
    let credentials = match way {
        Embedded => Credentials::Token(token),
        _ => Credentials::TokenFile(file),
    };
    let kubeconfig = kubeconfig(&proxy.url, &authority, &credentials);
    client.identity(|words| {
        let mut command = match way {
            InCluster | InClusterWithNewline => {
                fs::copy(&authority, folder.path().join("ca.crt")).unwrap();
                fs::write(folder.path().join("namespace"), "default").unwrap();
                in_a_pod(folder.path(), &proxy.url, words)
            }
            _ => {
                let mut command = Command::new(&words[0]);
                command
                    .args(&words[1..])
                    .env("KUBECONFIG", kubeconfig.path());
                command
            }
        };
        // Clients must not find the kubeconfig of whoever runs this.
        command.env("HOME", folder.path());
        command
    })
}

fn in_a_pod(account: &Path, server: &str, words: &[String]) -> Command {
    let (host, port) = server
        .trim_start_matches("https://")
        .split_once(':')
        .unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-c", IN_A_POD])
        .arg(account)
        .args(words)
        .env_remove("KUBECONFIG")
        .env("KUBERNETES_SERVICE_HOST", host)
        .env("KUBERNETES_SERVICE_PORT", port);
    command
}
