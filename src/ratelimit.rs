//! The rate limit on creates of some resources, per namespace and for all namespaces together. Off
//! by default.
//!
//! A create waits for its turn, first come, first served. It is refused at once if its turn would
//! come too late. governor keeps the rate. This module does the waiting, on tokio's clock, because
//! governor would start a timer thread.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use thiserror::Error;
use tokio::time::Instant;

use crate::config;
use crate::keyed::Keyed;
pub use crate::metrics::Scope;
use crate::route::CreateTarget;

mod callers;
mod queue;

pub use callers::Caller;
use callers::{CallerDecision, Callers};
use queue::RateQueue;

/// All limits. A change of the configuration replaces them as a whole. Creates that wait at that
/// moment keep their turn under the old limits.
#[derive(Debug)]
pub struct RateLimit {
    namespaces: Option<NamespaceQueues>,
    global: Option<RateQueue>,
    max_wait: Duration,
    callers: Callers,
    resources: Vec<config::Resource>,
}

#[derive(Debug)]
struct NamespaceQueues {
    rate: config::Rate,
    queues: Keyed<RateQueue>,
    /// Shared by the namespaces that do not fit into `queues`.
    overflow: Arc<RateQueue>,
}

/// The create may be sent.
#[derive(Debug)]
pub struct Admitted<'a> {
    /// How long it waited for its turn. Zero if it did not have to wait.
    pub waited: Duration,
    /// Some if other creates of the same caller wait for its response.
    pub first_create: Option<FirstCreate<'a>>,
}

/// The first create of a caller, until there is a response or it is dropped without one.
#[derive(Debug)]
pub struct FirstCreate<'a> {
    limit: &'a RateLimit,
    caller: Caller,
    namespace: &'a str,
    /// Whether it has taken a turn of the limit over all namespaces.
    counted: bool,
    answered: bool,
}

/// The create must not be sent: its turn would come too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the rate limit of the {} is reached", match .scope { Scope::Namespace => "namespace", Scope::Global => "proxy" })]
pub struct Rejected {
    /// The limit that was reached.
    pub scope: Scope,
    /// How long to wait before another try can succeed.
    pub retry_after: Duration,
}

impl RateLimit {
    /// Limits with a full burst each.
    #[must_use]
    pub fn new(config: &config::RateLimitConfig) -> Self {
        let namespaces = config.namespace.map(|rate| {
            let overflow = Arc::new(RateQueue::new(rate));
            // A queue whose burst has refilled has nothing to remember.
            let idle = overflow.refill().saturating_add(config.max_wait.get());
            NamespaceQueues {
                rate,
                queues: Keyed::new(config.max_namespaces.size(), idle),
                overflow,
            }
        });
        Self {
            namespaces,
            global: config.global.map(RateQueue::new),
            max_wait: config.max_wait.get(),
            callers: Callers::new(),
            resources: config.resources.clone(),
        }
    }

    /// Identifies who creates `target` with these headers. None if no limit counts it.
    pub fn caller(&self, headers: &HeaderMap, target: &CreateTarget) -> Option<Caller> {
        if self.namespaces.is_none() && self.global.is_none() {
            return None;
        }
        let (group, version, plural) = target.group_version_resource();
        self.resources
            .iter()
            .any(|each| each.matches(group, version, plural))
            .then(|| self.callers.of(headers, target))
    }

    /// Waits for the turn of a create. Dropping the future gives up the turn at no cost to others.
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
                first_create: None,
            });
        };
        let start = Instant::now();
        let deadline = start + self.max_wait;
        match self.callers.decide(caller, deadline).await {
            CallerDecision::Counted => {}
            CallerDecision::Uncounted => {
                return Ok(Admitted {
                    waited: Duration::ZERO,
                    first_create: None,
                });
            }
            CallerDecision::First { known_elsewhere } => {
                let mut first_create = FirstCreate {
                    limit: self,
                    caller,
                    namespace,
                    counted: false,
                    answered: false,
                };
                let mut waited = false;
                if let Some(queue) = self.global.as_ref().filter(|_| known_elsewhere) {
                    waited =
                        queue
                            .wait_for_turn(deadline)
                            .await
                            .map_err(|retry_after| Rejected {
                                scope: Scope::Global,
                                retry_after,
                            })?;
                    first_create.counted = true;
                }
                return Ok(Admitted {
                    waited: if waited {
                        start.elapsed()
                    } else {
                        Duration::ZERO
                    },
                    first_create: Some(first_create),
                });
            }
            CallerDecision::TooLate => {
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
                first_create: None,
            })
    }

    /// Notes that a counted create was refused. The next ones of the caller do not count.
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
        // The namespace comes first, so that a busy one waits in its own queue and does not hold up
        // the others.
        if let Some(namespaces) = &self.namespaces {
            let queue = namespaces.queue(namespace);
            waited |= queue
                .wait_for_turn(deadline)
                .await
                .map_err(|retry_after| Rejected {
                    scope: Scope::Namespace,
                    retry_after,
                })?;
        }
        if let Some(queue) = &self.global {
            waited |= queue
                .wait_for_turn(deadline)
                .await
                .map_err(|retry_after| Rejected {
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

impl FirstCreate<'_> {
    /// Notes the response. The create counts now, unless the apiserver refused it.
    pub fn answered(mut self, refused: bool) {
        self.answered = true;
        self.limit.callers.answered(self.caller, refused);
        if !refused {
            let namespaces = self
                .limit
                .namespaces
                .iter()
                .map(|namespaces| namespaces.queue(self.namespace));
            namespaces.for_each(|queue| queue.take());
        }
        if refused == self.counted {
            let global = self.limit.global.iter();
            global.for_each(if refused {
                RateQueue::give_back
            } else {
                RateQueue::take
            });
        }
    }
}

impl Drop for FirstCreate<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.limit.callers.unanswered(self.caller);
        }
    }
}

impl NamespaceQueues {
    fn queue(&self, namespace: &str) -> Arc<RateQueue> {
        self.queues
            .get(namespace, || RateQueue::new(self.rate))
            .unwrap_or_else(|| Arc::clone(&self.overflow))
    }
}

#[cfg(test)]
mod tests;
