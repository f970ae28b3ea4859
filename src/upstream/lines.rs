//! The lines of a watch: one JSON object each.

use bytes::{Buf, BytesMut};
use http::Response;
use http_body_util::BodyExt;

use super::Lease;
use crate::body::{Body, BodyError};

/// Reads the answer to a watch line by line.
pub struct WatchLines {
    body: Body<Lease>,
    read: BytesMut,
    longest: u64,
}

/// Why there is no next line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The watch broke off.
    #[error("the watch broke off")]
    Broken(#[from] BodyError),
    /// A line has more bytes than any object that is watched.
    #[error("the watch has a line of more than {0} bytes")]
    TooLong(u64),
}

impl WatchLines {
    /// Reads `watch`, whose lines have at most `longest` bytes.
    pub fn of(watch: Response<Body<Lease>>, longest: u64) -> Self {
        Self {
            body: watch.into_body(),
            read: BytesMut::new(),
            longest,
        }
    }

    /// The next line. None at the end; an incomplete last line is dropped.
    ///
    /// # Errors
    /// The watch broke off, or the line is too long.
    pub async fn next(&mut self) -> Result<Option<BytesMut>, LineError> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end);
                self.read.advance(1);
                return Ok(Some(line));
            }
            if self.read.len() as u64 > self.longest {
                return Err(LineError::TooLong(self.longest));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            if let Ok(data) = frame?.into_data() {
                self.read.extend_from_slice(&data);
            }
        }
    }
}
