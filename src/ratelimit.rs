//! The rate limit on creates, per namespace and all together. Off by default.
//!
//! A create waits for its turn inside the request, first come first served, and is refused at once
//! when its turn would come too late. governor keeps the rate; the waiting is ours, on tokio's
//! clock, because governor's own has a timer thread.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use thiserror::Error;
use tokio::time::Instant;

use crate::config;
use crate::keyed::Keyed;
pub use crate::metrics::Scope;

mod callers;
mod line;

pub use callers::Caller;
use callers::{Callers, Way};
use line::Line;

/// All limits. Replaced as a whole when the configuration changes; who waits then keeps its place
/// under the old ones.
#[derive(Debug)]
pub struct RateLimit {
    namespaces: Option<Namespaces>,
    global: Option<Line>,
    max_wait: Duration,
    callers: Callers,
}

#[derive(Debug)]
struct Namespaces {
    rate: config::Rate,
    lines: Keyed<Line>,
    /// Shared by the namespaces that found no room.
    overflow: Arc<Line>,
}

/// A create may go.
#[derive(Debug)]
pub struct Admitted<'a> {
    /// How long it has waited for its turn; zero where it was its turn at once.
    pub waited: Duration,
    /// Others of its caller wait for its answer.
    pub ahead: Option<Ahead<'a>>,
}

/// The first create of a caller, until its answer has come, or never does.
#[derive(Debug)]
pub struct Ahead<'a> {
    limit: &'a RateLimit,
    caller: Caller,
    namespace: &'a str,
    /// It has taken a turn of the limit over all namespaces.
    counted: bool,
    answered: bool,
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
            let idle = overflow.refill().saturating_add(config.max_wait.get());
            Namespaces {
                rate,
                lines: Keyed::new(config.max_namespaces.size(), idle),
                overflow,
            }
        });
        Self {
            namespaces,
            global: config.global.map(Line::new),
            max_wait: config.max_wait.get(),
            callers: Callers::new(),
        }
    }

    /// Whoever creates with these headers in this namespace. None: there is no limit.
    pub fn caller(&self, headers: &HeaderMap, namespace: &str) -> Option<Caller> {
        (self.namespaces.is_some() || self.global.is_some())
            .then(|| self.callers.of(headers, namespace))
    }

    /// Waits for the turn of a create. Dropping the future gives the place up and costs nobody
    /// anything.
    ///
    /// # Errors
    /// The turn would come after `max_wait`.
    pub async fn admit<'a>(
        &'a self,
        caller: Option<Caller>,
        namespace: &'a str,
    ) -> Result<Admitted<'a>, Rejected> {
        let Some(caller) = caller else {
            return Ok(Admitted {
                waited: Duration::ZERO,
                ahead: None,
            });
        };
        let start = Instant::now();
        let deadline = start + self.max_wait;
        match self.callers.way(caller, deadline).await {
            Way::Counted => {}
            Way::Uncounted => {
                return Ok(Admitted {
                    waited: Duration::ZERO,
                    ahead: None,
                });
            }
            Way::Ahead { known } => {
                let mut ahead = Ahead {
                    limit: self,
                    caller,
                    namespace,
                    counted: false,
                    answered: false,
                };
                let mut waited = false;
                if let Some(line) = self.global.as_ref().filter(|_| known) {
                    waited = line.pass(deadline).await.map_err(|retry_after| Rejected {
                        scope: Scope::Global,
                        retry_after,
                    })?;
                    ahead.counted = true;
                }
                return Ok(Admitted {
                    waited: if waited {
                        start.elapsed()
                    } else {
                        Duration::ZERO
                    },
                    ahead: Some(ahead),
                });
            }
            Way::TooLate => {
                return Err(Rejected {
                    scope: self.scope(),
                    retry_after: self.max_wait.max(Duration::from_secs(1)),
                });
            }
        }
        self.counted(namespace, start, deadline)
            .await
            .map(|waited| Admitted {
                waited,
                ahead: None,
            })
    }

    /// A create that counted was refused: those that come next do not.
    pub fn refused(&self, caller: Option<Caller>) {
        if let Some(caller) = caller {
            self.callers.answered(caller, true);
        }
    }

    async fn counted(
        &self,
        namespace: &str,
        start: Instant,
        deadline: Instant,
    ) -> Result<Duration, Rejected> {
        let mut waited = false;
        // The namespace first, so that a busy one waits in its own line and not in front of all
        // others.
        if let Some(namespaces) = &self.namespaces {
            let line = namespaces.line(namespace);
            waited |= line.pass(deadline).await.map_err(|retry_after| Rejected {
                scope: Scope::Namespace,
                retry_after,
            })?;
        }
        if let Some(line) = &self.global {
            waited |= line.pass(deadline).await.map_err(|retry_after| Rejected {
                scope: Scope::Global,
                retry_after,
            })?;
        }
        Ok(if waited {
            start.elapsed()
        } else {
            Duration::ZERO
        })
    }

    fn scope(&self) -> Scope {
        if self.namespaces.is_some() {
            Scope::Namespace
        } else {
            Scope::Global
        }
    }
}

impl Ahead<'_> {
    /// Its answer has come. What is no refusal is counted now.
    pub fn answered(mut self, refused: bool) {
        self.answered = true;
        self.limit.callers.answered(self.caller, refused);
        if !refused {
            let namespaces = self
                .limit
                .namespaces
                .iter()
                .map(|namespaces| namespaces.line(self.namespace));
            namespaces.for_each(|line| line.take());
        }
        if refused == self.counted {
            let global = self.limit.global.iter();
            global.for_each(if refused { Line::give_back } else { Line::take });
        }
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.limit.callers.unanswered(self.caller);
        }
    }
}

impl Namespaces {
    fn line(&self, namespace: &str) -> Arc<Line> {
        self.lines
            .get(namespace, || Line::new(self.rate))
            .unwrap_or_else(|| Arc::clone(&self.overflow))
    }
}

#[cfg(test)]
mod tests;
