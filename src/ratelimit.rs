//! The rate limit on creates, per namespace and all together. Off by default.
//!
//! A create waits for its turn inside the request, first come first served, and is refused at once when its turn would come too late.
//! governor keeps the rate; the waiting is ours, on tokio's clock, because governor's own has a timer thread.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use crate::config;
use crate::keyed::Keyed;
pub use crate::metrics::Scope;

mod line;

use line::Line;

/// All limits. Replaced as a whole when the configuration changes; who waits then keeps its place under the old ones.
#[derive(Debug)]
pub struct RateLimit {
    namespaces: Option<Namespaces>,
    global: Option<Line>,
    max_wait: Duration,
}

#[derive(Debug)]
struct Namespaces {
    rate: config::Rate,
    lines: Keyed<Line>,
    /// Shared by the namespaces that found no room.
    overflow: Arc<Line>,
}

/// A create may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// How long it has waited for its turn; zero where it was its turn at once.
    pub waited: Duration,
}

/// A create may not go: its turn would not have come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the rate limit of the {} is reached", match .scope { Scope::Namespace => "namespace", Scope::Global => "proxy" })]
pub struct Rejected {
    /// Whose limit it was.
    pub scope: Scope,
    /// After what time another try may succeed.
    pub retry_after: Duration,
}

impl RateLimit {
    /// Limits with all their bursts available.
    #[must_use]
    pub fn new(config: &config::RateLimit) -> Self {
        let namespaces = config.namespace.map(|rate| {
            let overflow = Arc::new(Line::new(rate));
            // Once the burst is back, a line is as good as new.
            let idle = overflow.refill().saturating_add(config.max_wait);
            Namespaces { rate, lines: Keyed::new(config.max_namespaces, idle), overflow }
        });
        Self { namespaces, global: config.global.map(Line::new), max_wait: config.max_wait }
    }

    /// Waits for the create's turn. Dropping the future gives the place up and costs nobody anything.
    ///
    /// # Errors
    /// The turn would come after `max_wait`.
    pub async fn admit(&self, namespace: &str) -> Result<Admitted, Rejected> {
        if self.namespaces.is_none() && self.global.is_none() {
            return Ok(Admitted { waited: Duration::ZERO });
        }
        let start = Instant::now();
        let deadline = start + self.max_wait;
        let mut waited = false;
        // The namespace first, so that a busy one waits in its own line and not in front of all others.
        if let Some(namespaces) = &self.namespaces {
            let line = namespaces.line(namespace);
            waited |= line.pass(deadline).await.map_err(|retry_after| Rejected { scope: Scope::Namespace, retry_after })?;
        }
        if let Some(line) = &self.global {
            waited |= line.pass(deadline).await.map_err(|retry_after| Rejected { scope: Scope::Global, retry_after })?;
        }
        Ok(Admitted { waited: if waited { start.elapsed() } else { Duration::ZERO } })
    }
}

impl Namespaces {
    fn line(&self, namespace: &str) -> Arc<Line> {
        self.lines.get(namespace, || Line::new(self.rate)).unwrap_or_else(|| Arc::clone(&self.overflow))
    }
}

#[cfg(test)]
mod tests;
