//! Why there is no answer of the upstream, and what that proves.

use std::sync::Arc;

use super::UNSENT_TRIES;
use super::connect::ConnectError;
use crate::verdict::Class;

/// Why there is no answer of the upstream.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection could be made: the request never left.
    #[error("no connection to the upstream")]
    Connect(#[source] Arc<ConnectError>),
    /// Every connection closed before the request was written: it never left.
    #[error("the upstream closed {UNSENT_TRIES} connections before the request was sent")]
    Unsent,
    /// REFUSED_STREAM, or a GOAWAY that excludes the request: the upstream says that it was not
    /// processed.
    #[error("the upstream refused the request unprocessed")]
    Refused(#[source] hyper::Error),
    /// The client's body broke off, so the request was never completed.
    #[error("the request was not completed")]
    Request(#[source] hyper::Error),
    /// The connection failed after the request was sent: it may have been processed.
    #[error("the connection to the upstream was lost before it answered")]
    Lost(#[source] hyper::Error),
    /// It answered 101 to a request that asked for no other protocol, or not for that one. What it
    /// did with the request is not known.
    #[error("the upstream switched to a protocol that nobody asked for")]
    Switched,
}

impl SendError {
    /// The label of metrics.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Unsent => "unsent",
            Self::Refused(_) => "refused",
            Self::Request(_) => "request",
            Self::Lost(_) => "lost",
            Self::Switched => "switched",
        }
    }

    /// What it proves of the request.
    pub fn class(&self) -> Class {
        match self {
            Self::Connect(_) | Self::Unsent => Class::ConnectFailed,
            Self::Refused(_) => Class::Refused,
            Self::Request(_) | Self::Lost(_) | Self::Switched => Class::Lost,
        }
    }

    /// Whether the request surely was not processed.
    pub fn provably_unprocessed(&self) -> bool {
        !matches!(self, Self::Request(_) | Self::Lost(_) | Self::Switched)
    }
}
