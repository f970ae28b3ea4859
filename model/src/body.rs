//! Reads the whole body of a message, up to a limit.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// A body that was read completely.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) data: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// Why a body could not be read completely.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection or the stream failed.
    #[error("the body cannot be read")]
    Read(#[source] hyper::Error),
    /// The stream ended without END_STREAM, which hyper reports as a complete body.
    #[error("the stream was reset before the body ended")]
    Reset,
    /// The body is larger than the limit.
    #[error("the body is too large")]
    TooLarge,
}

/// Reads the body of a message of this HTTP version, up to `most` bytes.
pub(crate) async fn whole(
    mut body: Incoming,
    version: Version,
    most: usize,
) -> Result<Whole, BodyError> {
    let mut data = Bytes::new();
    let mut joined = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame.map_err(BodyError::Read)?.into_data() {
            Ok(more) if data.len() + joined.len() + more.len() > most => {
                return Err(BodyError::TooLarge);
            }
            Ok(more) if data.is_empty() && joined.is_empty() => data = more,
            Ok(more) => {
                joined.extend_from_slice(&std::mem::take(&mut data));
                joined.extend_from_slice(&more);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    // hyper treats RST_STREAM with NO_ERROR or CANCEL as the end of the body; h2 knows the
    // difference.
    if version == Version::HTTP_2 && !body.is_end_stream() {
        return Err(BodyError::Reset);
    }
    if !joined.is_empty() {
        data = joined.freeze();
    }
    Ok(Whole { data, trailers })
}
