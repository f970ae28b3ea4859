//! The errors for a request that got no response, and what each proves about the request.

use std::error::Error as StdError;
use std::sync::Arc;

use super::UNSENT_TRIES;
use super::connect::ConnectError;
use crate::body::BodyError;
use crate::verdict::Class;

/// Why the upstream gave no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The proxy could not connect, so the request was never sent.
    #[error("no connection to the upstream")]
    Connect(#[source] Arc<ConnectError>),
    /// Every connection closed before the request was written, so it was never sent.
    #[error("the upstream closed {UNSENT_TRIES} connections before the request was sent")]
    Unsent,
    /// The upstream says that it did not process the request: REFUSED_STREAM, or a GOAWAY that
    /// excludes the request.
    #[error("the upstream refused the request unprocessed")]
    Refused(#[source] hyper::Error),
    /// The client's body broke off, so the request was never complete.
    #[error("the request was not completed")]
    Request(#[source] hyper::Error),
    /// The connection failed after the request was sent. The upstream may have processed it.
    #[error("the connection to the upstream was lost before it answered")]
    Lost(#[source] hyper::Error),
    /// The upstream answered 101, but the request asked for no other protocol, or for a different
    /// one. It is not known what the upstream did with the request.
    #[error("the upstream switched to a protocol that nobody asked for")]
    Switched,
}

impl SendError {
    /// Tells what a failed exchange proves. h2 reports a remote GOAWAY only to streams above its
    /// last stream id. The other streams end with an I/O error when the connection closes
    /// (`h2/src/proto/streams/streams.rs`, `recv_go_away` and `recv_eof`).
    pub(super) fn of_exchange(error: hyper::Error) -> Self {
        let mut source = error.source();
        while let Some(cause) = source {
            if cause.is::<BodyError>() {
                return Self::Request(error);
            }
            if let Some(h2) = cause.downcast_ref::<h2::Error>() {
                // hyper resets the stream of a body that broke off.
                if h2.is_reset() && !h2.is_remote() && !h2.is_library() {
                    return Self::Request(error);
                }
                let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
                if h2.is_remote() && (refused || h2.is_go_away()) {
                    return Self::Refused(error);
                }
            }
            source = cause.source();
        }
        Self::Lost(error)
    }

    /// Whether the connection closed, as opposed to carrying bytes that are not a response.
    pub(super) fn is_closed_connection(&self) -> bool {
        let Self::Lost(error) = self else {
            return false;
        };
        error.is_incomplete_message()
            || error
                .source()
                .is_some_and(|cause| cause.is::<std::io::Error>())
    }

    /// The value of the metrics' label.
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

    /// The class of the failure, which says what it proves about the request.
    pub fn class(&self) -> Class {
        match self {
            Self::Connect(_) | Self::Unsent => Class::ConnectFailed,
            Self::Refused(_) => Class::Refused,
            Self::Request(_) | Self::Lost(_) | Self::Switched => Class::Lost,
        }
    }

    /// Whether the upstream provably did not process the request.
    pub fn provably_unprocessed(&self) -> bool {
        !matches!(self, Self::Request(_) | Self::Lost(_) | Self::Switched)
    }
}
