//! What the owner of a new kubeconfig should know.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Place;
use super::mistake::OddityKind;
use crate::config::units::GoDuration;

/// Something that the owner of a kubeconfig should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// This user has only a client certificate.
    ClientCertificate {
        /// The user's name in the file.
        user: String,
    },
    /// The context names a user that the kubeconfig does not have, or none.
    NoUser {
        /// The name of the context.
        context: String,
        /// The name of the missing user. Empty: the context names none.
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
                "user '{user}' authenticates with a client certificate, which passes the proxy only if it has serving.clientCaFile \
                 (--client-certificates says that it has), because TLS ends there; use a token instead, for example from `kubectl create token`, or a \
                 tokenFile"
            ),
            Self::NoUser { context, user } if user.is_empty() => write!(
                f,
                "context '{context}' names no user, so clients send no credentials"
            ),
            Self::NoUser { context, user } => write!(
                f,
                "context '{context}' names the user '{user}', which the kubeconfig does not have"
            ),
            Self::PlainServer => f.write_str(
                "the server begins with http://, so clients send no credentials; use https://",
            ),
            Self::Space { path } => write!(
                f,
                "the token file {} has white space around the token, such as a line feed at its end, which some clients refuse to send; write the file \
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
            about(left)
        ),
        _ => write!(f, "it expired at {time}"),
    }
}

/// A time to come, no more exactly than a person needs it.
fn about(seconds: u64) -> String {
    const HOUR: u64 = 60 * 60;
    const DAY: u64 = 24 * HOUR;
    match seconds {
        ..HOUR => GoDuration(Duration::from_secs(seconds)).to_string(),
        HOUR..DAY => GoDuration(Duration::from_secs(seconds - seconds % 60)).to_string(),
        DAY.. if seconds < 2 * DAY => "1 day".to_owned(),
        _ => format!("{} days", seconds / DAY),
    }
}
