//! Creates on their way to the loop or past it: the rate limit, and what streams through because it cannot or must not be replayed.

use std::time::Duration;

use http::{Request, Response};
use tokio::time::Instant;

use super::{Creates, Settings, Target};
use crate::body::Body;
use crate::error::ProxyError;
use crate::forward::{to_client, until};
use crate::metrics::{NotReplayed, Outcome};
use crate::ratelimit::{Admitted, Rejected};
use crate::route::timeout;
use crate::upstream::Lease;

impl Creates {
    /// Waits for the rate limit; says for how long.
    pub(super) async fn admit(&self, settings: &Settings, target: &Target) -> Result<Duration, Rejected> {
        match settings.rate_limit.admit(&target.namespace).await {
            Ok(Admitted { waited }) => {
                if !waited.is_zero() {
                    self.metrics.rate_limit_waited(waited);
                }
                Ok(waited)
            }
            Err(rejected) => {
                self.metrics.rate_limit_rejected(rejected.scope);
                Err(rejected)
            }
        }
    }

    /// As [`Self::pass`], for a create that could not be buffered: the rate limit holds for it all the same.
    pub(super) async fn pass_limited(
        &self,
        settings: &Settings,
        target: &Target,
        request: Request<Body>,
        why: NotReplayed,
        started: Instant,
    ) -> Result<Response<Body<Lease>>, ProxyError> {
        if let Err(rejected) = self.admit(settings, target).await {
            self.metrics.outcome(&target.namespace, Outcome::RateLimited);
            return Err(ProxyError::RateLimited(rejected));
        }
        self.pass(settings, target, request, why, started).await
    }

    /// Streams a create that cannot or must not be replayed.
    pub(super) async fn pass(
        &self,
        settings: &Settings,
        target: &Target,
        request: Request<Body>,
        why: NotReplayed,
        started: Instant,
    ) -> Result<Response<Body<Lease>>, ProxyError> {
        self.metrics.not_replayed(why);
        let deadline = timeout::deadline(request.uri(), started);
        let sending = self.upstream.create(&target.namespace, settings.backoff.base, request);
        let answer = until(deadline, sending).await.and_then(|answer| Ok(to_client(answer?)));
        let outcome = match &answer {
            Ok(response) if response.status().is_success() => Outcome::Created,
            Ok(_) => Outcome::Refused,
            Err(_) => Outcome::NoAnswer,
        };
        self.metrics.outcome(&target.namespace, outcome);
        answer
    }
}
