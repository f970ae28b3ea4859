//! Sends one request to one server after another until a server has received it.

use std::sync::Arc;

use http::Request;

use super::SendError;
use super::server::{FailedSend, Server};
use crate::body::Body;
use crate::metrics::Metrics;

/// Sends `request` with `send`, which picks an untried server, sends the request there and returns
/// the server's index in `servers`. A request that provably never left goes on to the next server.
///
/// # Errors
/// The request left and got no response, or every server was tried.
pub(super) async fn failover<T, F>(
    servers: &[Arc<Server>],
    metrics: &Metrics,
    mut request: Box<Request<Body>>,
    send: impl Fn(Tried, Box<Request<Body>>) -> F,
) -> Result<T, SendError>
where
    F: Future<Output = (usize, Result<T, Box<FailedSend>>)>,
{
    let mut tried = Tried::default();
    loop {
        let (index, sent) = send(tried, request).await;
        let failed = match sent {
            Ok(response) => return Ok(response),
            Err(failed) => *failed,
        };
        metrics.upstream_error(failed.error.kind());
        tried.add(index);
        request = match failed.unsent {
            Some(unsent) if tried.count() < servers.len() => unsent,
            _ => return Err(failed.error),
        };
    }
}

/// The servers that were tried for one request, by their index in the list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried(u64);

impl Tried {
    pub(super) fn contains(self, index: usize) -> bool {
        self.0 & (1 << index) != 0
    }

    fn add(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    fn count(self) -> usize {
        self.0.count_ones() as usize
    }
}
