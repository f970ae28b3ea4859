//! The rate limit of creates, and the creates that are streamed because they cannot or must not be
//! replayed.

use std::pin::pin;

use http::{Request, Response, StatusCode};
use tokio::time::Instant;

use super::{CreateSettings, Creates};
use crate::body::Body;
use crate::error::ProxyError;
use crate::forward::until;
use crate::metrics::NotReplayed;
use crate::ratelimit::{Admitted, Caller};
use crate::route::{CreateTarget, timeout};
use crate::upstream::Lease;
use crate::verdict::Outcome;

impl Creates {
    /// Waits until the rate limit lets this create go, but not longer than the client waits.
    ///
    /// # Errors
    /// [`ProxyError::RateLimited`], or [`ProxyError::TimedOut`] at `deadline`.
    pub(super) async fn admit<'a>(
        &self,
        settings: &'a CreateSettings,
        caller: Option<Caller>,
        target: &'a CreateTarget,
        deadline: Option<Instant>,
    ) -> Result<Admitted<'a>, ProxyError> {
        let turn = pin!(settings.rate_limit.admit(caller, &target.namespace));
        match until(deadline, turn).await? {
            Ok(admitted) => {
                if !admitted.waited.is_zero() {
                    self.metrics.rate_limit_waited(admitted.waited);
                }
                Ok(admitted)
            }
            Err(rejected) => {
                self.metrics.rate_limit_rejected(rejected.scope);
                Err(ProxyError::RateLimited(rejected))
            }
        }
    }

    /// Like [`Self::pass_through`], for a create that could not be buffered. It waits for the rate
    /// limit first.
    pub(super) async fn pass_through_rate_limited(
        &self,
        settings: &CreateSettings,
        target: &CreateTarget,
        request: Box<Request<Body>>,
        why: NotReplayed,
        started: Instant,
    ) -> Result<Response<Body<Lease>>, ProxyError> {
        let caller = settings.rate_limit.caller(request.headers(), target);
        let deadline = timeout::of(request.uri()).map(|timeout| started + timeout);
        let first_create = match self.admit(settings, caller, target, deadline).await {
            Ok(admitted) => admitted.first_create,
            Err(error) => {
                let outcome = match error {
                    ProxyError::RateLimited(_) => Outcome::RateLimited,
                    _ => Outcome::NoAnswer,
                };
                self.metrics
                    .outcome(&target.namespace, &target.resource, outcome);
                return Err(error);
            }
        };
        let answer = self
            .pass_through(settings, target, request, why, started)
            .await;
        if let (Ok(answer), Some(first_create)) = (&answer, first_create) {
            // The body is not read here, so a 403 may come from admission too: it does not count as
            // a refusal of the caller.
            first_create.answered(matches!(
                answer.status(),
                StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND
            ));
        }
        answer
    }

    /// Streams a create that cannot or must not be replayed. Its name is not read, so until its end
    /// is known it may be the twin of any that is resolved.
    pub(super) async fn pass_through(
        &self,
        settings: &CreateSettings,
        target: &CreateTarget,
        request: Box<Request<Body>>,
        why: NotReplayed,
        started: Instant,
    ) -> Result<Response<Body<Lease>>, ProxyError> {
        self.metrics.not_replayed(why);
        let deadline = timeout::deadline(request.uri(), started);
        let settle = settings.backoff.base;
        let mut claim = settings.resolves().then(|| self.claims.nameless(target));
        if let Some(claim) = &mut claim {
            claim.sending();
        }
        let sending = pin!(self.upstream.create(&target.namespace, settle, request));
        let answer = until(deadline, sending)
            .await
            .and_then(|answer| answer.map_err(Into::into));
        if let Some(claim) = &mut claim
            && is_not_stored(&answer)
        {
            claim.nothing_stored();
        }
        let outcome = match &answer {
            Ok(response) if response.status().is_success() => Outcome::Created,
            Ok(_) => Outcome::Refused,
            Err(_) => Outcome::NoAnswer,
        };
        self.metrics
            .outcome(&target.namespace, &target.resource, outcome);
        answer
    }
}

/// Whether the create was refused. The body of the answer is not read, but a 4xx other than a
/// timeout comes before anything is stored.
fn is_not_stored(answer: &Result<Response<Body<Lease>>, ProxyError>) -> bool {
    match answer {
        Ok(answer) => {
            answer.status().is_client_error() && answer.status() != StatusCode::REQUEST_TIMEOUT
        }
        Err(ProxyError::Upstream(error)) => error.provably_unprocessed(),
        Err(_) => false,
    }
}
