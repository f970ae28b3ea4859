//! Writes a new kubeconfig for a token file, or points the cluster of an existing one at the proxy.
//!
//! Clients need a kubeconfig to use the proxy. With `--server` alone they lose the in-cluster
//! token, and for an `http://` server they send no credentials
//! (<https://github.com/kubernetes/client-go/blob/v0.32.0/tools/clientcmd/client_config.go#L199>).
//!
//! Some clients do not know `tokenFile`. For them the token itself can stand in the kubeconfig.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::load::Kubeconfig;
use super::read::cluster_of;
use super::token::{self, surrounded_by_space};
use super::tree::{list, map, text, to_yaml};
use super::{KubeconfigError, Warning};
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

    let user = context.text("user").unwrap_or_default();
    if original.find("users", user).is_none() {
        warnings.push(Warning::NoUser {
            context: context.name().to_owned(),
            user: user.to_owned(),
        });
    }

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
