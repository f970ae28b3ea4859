//! Writes a new kubeconfig for a token file, or points the cluster of an existing one at the proxy.
//!
//! Clients need a kubeconfig to use the proxy. With `--server` alone they lose the in-cluster
//! token, and for an `http://` server they send no credentials
//! (<https://github.com/kubernetes/client-go/blob/v0.32.0/tools/clientcmd/client_config.go#L199>).
//!
//! Some clients do not know `tokenFile`. For them the token itself can stand in the kubeconfig.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::load::Kubeconfig;
use super::mistake::OddityKind;
use super::read::cluster_of;
use super::token::{self, surrounded_by_space};
use super::tree::{list, map, text, to_yaml};
use super::{KubeconfigError, Place};
use crate::config::units::GoDuration;
use crate::config::yaml::{Node, YamlValue};

const NAME: &str = "kube-retry-proxy";

/// How clients reach the proxy.
#[derive(Debug, Clone, Copy)]
pub struct ProxyEndpoint<'a> {
    /// The proxy's URL, `https://host:port`.
    pub server: &'a str,
    /// PEM certificates that verify the proxy. None: the CAs of the client's system.
    pub ca: Option<&'a [u8]>,
}

/// The user of a new kubeconfig.
#[derive(Debug, Clone, Copy)]
pub struct NewKubeconfig<'a> {
    /// The file of the user's token.
    pub token_file: &'a Path,
    /// The default namespace.
    pub namespace: Option<&'a str>,
    /// The time now, if the kubeconfig gets the token instead of the path of its file.
    pub embed: Option<SystemTime>,
}

/// A finished kubeconfig, and warnings for its owner.
#[derive(Debug)]
pub struct Rewritten {
    /// The kubeconfig as YAML.
    pub text: String,
    /// What its owner should know.
    pub warnings: Vec<Warning>,
}

/// Something that the owner of a kubeconfig should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// This user has only a client certificate.
    ClientCertificate {
        /// The user's name in the file.
        user: String,
    },
    /// The server's URL begins with `http://`.
    PlainServer,
    /// The token file has white space around the token.
    Space {
        /// The token file.
        path: PathBuf,
    },
    /// The token of this user stands in the kubeconfig.
    Embedded {
        /// The user's name.
        user: String,
        /// When the token expires, in seconds since 1970. None: it does not say so.
        expires: Option<i64>,
        /// The time of writing, in seconds since 1970.
        now: i64,
    },
    /// No token of this user could be embedded, because it has no `tokenFile`.
    NothingToEmbed {
        /// The user's name.
        user: String,
    },
    /// The token file of a user cannot be used, and the user is not that of the context.
    NotEmbedded {
        /// The user's name.
        user: String,
        /// Its token file.
        path: PathBuf,
    },
    /// A file is read as kubectl reads it, and may not be meant so.
    Odd {
        /// The file and the line.
        place: Place,
        /// What is odd.
        kind: OddityKind,
    },
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
            Self::Space { path } => write!(
                f,
                "the token file {} has white space around the token, such as a line feed at its end, which some clients send; write the file \
                 without it, for example with `printf %s \"$(kubectl create token NAME)\" > FILE`, or use `kube-retry-proxy kubeconfig --embed-token`",
                path.display()
            ),
            Self::Embedded { user, expires, now } => embedded(f, user, *expires, *now),
            Self::NothingToEmbed { user } => write!(
                f,
                "user '{user}' has no tokenFile, so --embed-token changes nothing for it"
            ),
            Self::NotEmbedded { user, path } => write!(
                f,
                "user '{user}' keeps its tokenFile, because {} cannot be read or is not a token",
                path.display()
            ),
            Self::Odd { place, kind } => write!(f, "{place}: {kind}"),
        }
    }
}

fn embedded(f: &mut fmt::Formatter<'_>, user: &str, expires: Option<i64>, now: i64) -> fmt::Result {
    write!(f, "the token of user '{user}' is now in the kubeconfig: ")?;
    let Some(expires) = expires else {
        return f.write_str(
            "it does not say when it expires, and nothing renews it; keep the file as secret as the token",
        );
    };
    let time = OffsetDateTime::from_unix_timestamp(expires)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| expires.to_string());
    match u64::try_from(expires.saturating_sub(now)) {
        Ok(left @ 1..) => write!(
            f,
            "it expires at {time}, in {}, and nothing renews it; run this command again before then",
            GoDuration(Duration::from_secs(left))
        ),
        _ => write!(f, "it expired at {time}"),
    }
}

/// A new kubeconfig whose only user has a token.
///
/// # Errors
/// The token must be embedded, and its file cannot be read.
pub fn new_kubeconfig(
    proxy: ProxyEndpoint<'_>,
    new: NewKubeconfig<'_>,
) -> Result<Rewritten, KubeconfigError> {
    let mut warnings = plain(proxy);
    let mut user = Node {
        line: 0,
        value: map([]),
    };
    // A relative path would be relative to the kubeconfig, wherever that is.
    let path = std::path::absolute(new.token_file).unwrap_or_else(|_| new.token_file.to_owned());
    user.set("tokenFile", text(path.to_string_lossy()));
    match new.embed {
        Some(now) => {
            let embedded = embed(&mut user, NAME, now);
            warnings.push(embedded.map_err(|source| KubeconfigError::Token {
                user: NAME.to_owned(),
                source,
            })?);
        }
        None => warnings.extend(space(&user)),
    }
    let mut cluster = Node {
        line: 0,
        value: map([]),
    };
    point_at(&mut cluster, proxy);
    let mut context = Node {
        line: 0,
        value: map([("cluster", text(NAME)), ("user", text(NAME))]),
    };
    if let Some(namespace) = new.namespace {
        context.set("namespace", text(namespace));
    }
    let named = |field, value| list([map([("name", text(NAME)), (field, value)])]);
    let tree = Node {
        line: 0,
        value: map([
            ("apiVersion", text("v1")),
            ("kind", text("Config")),
            ("current-context", text(NAME)),
            ("clusters", named("cluster", cluster.value)),
            ("contexts", named("context", context.value)),
            ("users", named("user", user.value)),
        ]),
    };
    Ok(Rewritten {
        text: to_yaml(&tree),
        warnings,
    })
}

/// The kubeconfig `original`, with the cluster of `context` pointed at the proxy and that context
/// made the current one. None: the current context.
///
/// Everything else stays: other clusters, users, namespaces and unknown fields. Relative paths
/// become absolute, since the new file may be in another directory. With `embed`, which is the time
/// now, the users of the cluster that have a `tokenFile` get the token in it instead.
///
/// # Errors
/// The context is missing, or the token of its user cannot be embedded.
pub fn rewrite(
    original: &Kubeconfig,
    context: Option<&str>,
    proxy: ProxyEndpoint<'_>,
    embed: Option<SystemTime>,
) -> Result<Rewritten, KubeconfigError> {
    let (context, cluster) = cluster_of(original, context)?;
    let mut warnings = plain(proxy);
    warnings.extend(original.oddities().map(|(place, oddity)| Warning::Odd {
        place,
        kind: oddity.kind,
    }));

    let mut tree = original.merged();
    let users = users_of(&tree, cluster.name());
    for user in tree.items_mut("users") {
        let name = user.text("name").unwrap_or_default().to_owned();
        if !users.contains(&name) {
            continue;
        }
        let chosen = context.text("user") == Some(&name);
        let Some(body) = user.get_mut("user") else {
            continue;
        };
        if has_only_a_certificate(body) {
            let user = name.clone();
            warnings.push(Warning::ClientCertificate { user });
        }
        match embed {
            Some(now) => warnings.extend(embed_for(body, name, chosen, now)?),
            None => warnings.extend(space(body)),
        }
    }
    for entry in tree.items_mut("clusters") {
        if entry.text("name").unwrap_or_default() == cluster.name() {
            match entry.get_mut("cluster") {
                Some(body) => point_at(body, proxy),
                None => continue,
            }
        }
    }
    tree.set("current-context", text(context.name()));
    Ok(Rewritten {
        text: to_yaml(&tree),
        warnings,
    })
}

fn point_at(cluster: &mut Node, proxy: ProxyEndpoint<'_>) {
    for field in [
        "certificate-authority",
        "certificate-authority-data",
        "insecure-skip-tls-verify",
        "tls-server-name",
        "proxy-url",
    ] {
        cluster.remove(field);
    }
    cluster.set("server", text(proxy.server));
    if let Some(ca) = proxy.ca {
        cluster.set("certificate-authority-data", text(STANDARD.encode(ca)));
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

/// The users of a cluster, in any context.
fn users_of(tree: &Node, cluster: &str) -> Vec<String> {
    tree.items("contexts")
        .iter()
        .filter_map(|entry| entry.get("context"))
        .filter(|context| context.text("cluster").unwrap_or_default() == cluster)
        .map(|context| context.text("user").unwrap_or_default().to_owned())
        .collect()
}

fn has_only_a_certificate(user: &Node) -> bool {
    let any = |fields: &[&str]| {
        fields.iter().any(|field| match user.get(field) {
            Some(node) => match &node.value {
                YamlValue::Null => false,
                YamlValue::Text(text) => !text.is_empty(),
                _ => true,
            },
            None => false,
        })
    };
    any(&["client-certificate", "client-certificate-data"])
        && !any(&["token", "tokenFile", "username", "exec", "auth-provider"])
}

/// A warning if the token file of a user has white space around the token.
fn space(user: &Node) -> Option<Warning> {
    let path = Path::new(user.text("tokenFile")?);
    surrounded_by_space(path).then(|| Warning::Space {
        path: path.to_owned(),
    })
}

/// Embeds the token of a user that may have a token file. Only the user of the chosen context must
/// get one.
fn embed_for(
    user: &mut Node,
    name: String,
    chosen: bool,
    now: SystemTime,
) -> Result<Option<Warning>, KubeconfigError> {
    let Some(path) = user.text("tokenFile").map(PathBuf::from) else {
        return Ok(chosen.then_some(Warning::NothingToEmbed { user: name }));
    };
    match embed(user, &name, now) {
        Ok(warning) => Ok(Some(warning)),
        Err(source) if chosen => Err(KubeconfigError::Token { user: name, source }),
        Err(_) => Ok(Some(Warning::NotEmbedded { user: name, path })),
    }
}

/// Replaces the token file of a user by its token. client-go prefers the file to a token beside it,
/// so that the token replaces both.
fn embed(user: &mut Node, name: &str, now: SystemTime) -> Result<Warning, token::TokenError> {
    let path = PathBuf::from(user.text("tokenFile").unwrap_or_default());
    let token = token::read(&path)?;
    let expires = token::expiry(&token);
    user.remove("tokenFile");
    user.set("token", text(token));
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    Ok(Warning::Embedded {
        user: name.to_owned(),
        expires,
        now: i64::try_from(now).unwrap_or(i64::MAX),
    })
}

#[cfg(test)]
mod tests;
