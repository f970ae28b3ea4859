//! The replay loop: reads a create into memory, sends it, judges the answer, and sends it again
//! until the apiserver has really decided.
//!
//! `proxy` calls it for each create. The client gets exactly one answer, and where the apiserver
//! gave one, that is its last. A create is sent again only if the last attempt provably stored
//! nothing. During a pause it holds only its body and its place among the held creates. hyper drops
//! the future when the client disconnects, which stops the create at any point.

mod attempt;
mod claims;
mod held;
mod lookup;
mod naming;
mod pass_through;
mod quota;
mod replay;
mod resolve;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response, request};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use claims::Claims;
pub use held::{HeldPlace, HeldPlaces};
pub use settings::CreateSettings;

use crate::body::{Body, BodyError, Buffered, Buffers, Collected, Reservation, collect_within};
use crate::budget::NamespaceBudget;
use crate::config::Mode;
use crate::decisions::{Decisions, Record};
use crate::drain::Watcher;
use crate::error::ProxyError;
use crate::headers;
use crate::identity::ByCertificate;
use crate::metrics::{Metrics, NotReplayed, RouteLabel};
use crate::quotas::Quotas;
use crate::ratelimit::{Admitted, Caller, FirstCreate};
use crate::route::{CreateTarget, timeout};
use crate::status::object_meta;
use crate::trace::{Trace, Tracer};
use crate::upstream::{Lease, Upstream};
use crate::verdict::{Class, Outcome};
use attempt::Received;
use quota::Queued;
use resolve::Resolving;

/// How long the body of a create may take to arrive. A slower one is streamed and not replayed, so
/// that what has arrived occupies memory no longer than this.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// The parts that all creates share, and the entry point for each.
pub struct Creates {
    /// Replaced as a whole when the configuration is reloaded. A create keeps the settings that it
    /// started with.
    pub settings: ArcSwap<CreateSettings>,
    /// Sends attempts to the apiservers.
    pub upstream: Arc<Upstream>,
    /// The creates that wait for full quotas.
    pub quotas: Arc<Quotas>,
    /// The places of creates that wait between two attempts.
    pub held: HeldPlaces,
    /// Has a token for each create that is in the loop. The drain waits for them.
    pub in_flight: TaskTracker,
    /// The memory for bodies, `creates.maxBuffered`.
    pub buffers: Arc<Buffers>,
    /// The largest body that is buffered, in bytes.
    pub max_body: u64,
    /// Which creates of one name can have stored an object.
    pub claims: Arc<Claims>,
    /// Remembers how creates ended, for operators.
    pub decisions: Arc<Decisions>,
    /// None: no traces are configured.
    pub tracer: Option<Arc<Tracer>>,
    /// Counts attempts, replays and outcomes.
    pub metrics: Arc<Metrics>,
    /// Tells when the grace of the drain is over: creates then get the last answer at once.
    pub drain: Watcher,
}

/// How a create ends, and why it ends so.
#[derive(Clone, Copy, Debug)]
struct Ending {
    outcome: Outcome,
    why: &'static str,
}

const NEVER_SENT: Ending = Ending {
    outcome: Outcome::NoAnswer,
    why: "the client's own timeout had passed before it could be sent",
};

impl Creates {
    /// Replaces the settings. Creates that are in flight keep theirs.
    pub fn reload(&self, new: CreateSettings) {
        let old = self.settings.load_full();
        if !old.resolves() {
            old.leave_in_doubt(self.claims.anything());
        }
        self.settings.store(Arc::new(new));
    }

    /// Answers one create. `by` is Some if a certificate says who asks. `room` is a reservation
    /// without any bytes yet.
    ///
    /// # Errors
    /// The apiserver gave no answer, or the create was not sent: a limit was reached, or its body
    /// broke off.
    pub async fn create(
        &self,
        target: CreateTarget,
        by: Option<ByCertificate<'_>>,
        room: Reservation,
        mut request: Box<Request<Body>>,
    ) -> Result<Response<Body<Lease>>, ProxyError> {
        let started = Instant::now();
        let settings = self.settings.load_full();
        if settings.mode == Mode::Off {
            return self
                .pass_through(&settings, &target, request, NotReplayed::ModeOff, started)
                .await;
        }
        let (mut body, mut room) = match self
            .read(&mut request, room, started)
            .await
            .map_err(ProxyError::RequestBody)?
        {
            Ok(whole) => whole,
            Err(why) => {
                return self
                    .pass_through_rate_limited(&settings, &target, request, why, started)
                    .await;
            }
        };
        let read = started.elapsed();
        let (mut head, _) = (*request).into_parts();
        let resolving = self
            .resolving(&settings, &target, &mut head, &mut body, &mut room)
            .await;
        let deadline = timeout::of(&head.uri).map(|timeout| started + timeout);
        let mut record = self.decisions.begin(&target.namespace, &target.resource);
        let trace = self
            .tracer
            .as_ref()
            .and_then(|tracer| tracer.begin(&head, record.namespace(), record.resource(), started));
        if let Some(name) = &target.applied {
            record.named(name);
        }
        if let Some(meta) = object_meta(&body.data) {
            record.object(&meta);
        }
        let caller = settings.rate_limit.caller(&head.headers, &target);
        let _in_flight = self.in_flight.token();
        let mut create = Create {
            shared: self,
            settings: &settings,
            target: &target,
            by,
            budget: None,
            caller,
            first_create: None,
            head,
            body,
            room,
            resolving,
            started,
            deadline,
            attempts: 0,
            since_quota: (0, started),
            queued: None,
            longest_attempt: Duration::ZERO,
            is_authorized: false,
            waited_for_others: read,
            another_server_is_up: false,
            record,
            trace,
        };
        create.run().await
    }

    /// Reads the body into memory, or says why the create must be streamed instead. In that case
    /// the bytes that were read are put back.
    async fn read(
        &self,
        request: &mut Request<Body>,
        mut room: Reservation,
        started: Instant,
    ) -> Result<Result<(Buffered, Reservation), NotReplayed>, BodyError> {
        if !room.grow(headers::size(request.headers()) as u64).await {
            return Ok(Err(NotReplayed::BufferFull));
        }
        Ok(
            match collect_within(
                request.body_mut(),
                self.max_body,
                room,
                Some(started + BODY_WITHIN),
            )
            .await?
            {
                Collected::Whole(body, room) => Ok((body, room)),
                Collected::TooLarge => Err(NotReplayed::BodyTooLarge),
                Collected::OverBudget => Err(NotReplayed::BufferFull),
                Collected::TooSlow => Err(NotReplayed::BodySlow),
            },
        )
    }
}

/// One create in the loop. Dropping it reports its end to the metrics, the trace and the decisions,
/// whether it was answered or the client disconnected.
struct Create<'a> {
    shared: &'a Creates,
    settings: &'a CreateSettings,
    target: &'a CreateTarget,
    /// Some if a certificate says who asks. Nothing else of the head can end while the create
    /// waits: the apiserver looks at a token anew in each attempt.
    by: Option<ByCertificate<'a>>,
    /// None until the apiserver has given an answer that is not a refusal. A caller can invent
    /// namespaces, and these must not occupy entries of the budget.
    budget: Option<NamespaceBudget>,
    /// The caller that the rate limit counts this create for.
    caller: Option<Caller>,
    /// Some while other creates of the caller wait for this one's answer.
    first_create: Option<FirstCreate<'a>>,
    head: request::Parts,
    body: Buffered,
    /// The memory for the head and the body.
    room: Reservation,
    /// None: ambiguous answers to this create are relayed.
    resolving: Option<Box<Resolving>>,
    started: Instant,
    /// When the client's own `?timeout=` ends.
    deadline: Option<Instant>,
    attempts: u32,
    /// How many attempts were made, and the time, when it last stopped waiting for a full quota. The
    /// limits of other answers count from there. At first its arrival.
    since_quota: (u32, Instant),
    /// Some from the first refusal by a full quota on.
    queued: Option<Queued<'a>>,
    longest_attempt: Duration,
    /// Whether an answer has shown that the caller may create this.
    is_authorized: bool,
    /// Time that is not the proxy's own overhead: reading the body, waiting for the rate limit, and
    /// attempts.
    waited_for_others: Duration,
    /// The last answer came from a server that is stopping or starting, and another server is up.
    another_server_is_up: bool,
    record: Record,
    /// None: this create is not traced.
    trace: Option<Box<Trace>>,
}

impl Create<'_> {
    /// Sends the create until an answer is final, and returns that answer.
    ///
    /// **Invariant:** one attempt is in flight at a time, and the next one starts only after the
    /// last one provably stored nothing. So the proxy never creates an object twice, and a client
    /// never gets `AlreadyExists` for an object that it has just created itself.
    ///
    /// - Only the verdict on the whole answer to an attempt, or on the error in its place, allows a
    ///   replay. If a lost answer counted as a refusal, the create would be sent again and
    ///   `a_create_whose_answer_is_lost_is_never_sent_again` would fail.
    /// - When a limit ends the loop, the client gets the answer at hand unchanged. Nothing between
    ///   an attempt and `wait_to_replay` may replace it (tests in `exhaustion.rs`). The proxy's own
    ///   error comes only if there is no answer.
    /// - Everything that the create holds is a guard, and during a pause it holds only its body and
    ///   its place among the held creates. So the future can be dropped at any await, and the
    ///   outcome is still counted once (tests in `client_gone.rs`).
    async fn run(&mut self) -> Result<Response<Body<Lease>>, ProxyError> {
        match self
            .shared
            .admit(self.settings, self.caller, self.target, self.deadline)
            .await
        {
            Ok(Admitted {
                waited,
                first_create,
            }) => {
                self.waited_for_others += waited;
                self.first_create = first_create;
            }
            Err(error @ ProxyError::RateLimited(_)) => {
                let ending = Ending {
                    outcome: Outcome::RateLimited,
                    why: "the rate limit of creates was reached",
                };
                return self.answer(ending, Err(error));
            }
            Err(error) => return self.answer(NEVER_SENT, Err(error)),
        }
        if self
            .deadline
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            return self.answer(NEVER_SENT, Err(ProxyError::TimedOut));
        }
        loop {
            let (answer, reply) = match self.attempt().await {
                Received::Streaming(response, class) => {
                    let ending = self.final_answer(class);
                    return self.answer(ending, Ok(response));
                }
                Received::Judged(answer, reply) => (answer, reply),
            };
            if let Err((ending, reply)) = self.next_attempt(answer, reply).await {
                let ending = if reply.is_ok() {
                    ending
                } else {
                    Ending {
                        outcome: Outcome::NoAnswer,
                        ..ending
                    }
                };
                return self.answer(ending, reply.map(|response| response.map(Body::from)));
            }
        }
    }

    /// Ends the create with this answer.
    fn answer<T>(
        &mut self,
        ending: Ending,
        reply: Result<Response<T>, ProxyError>,
    ) -> Result<Response<T>, ProxyError> {
        self.record.end(ending.outcome, ending.why);
        if ending.outcome == Outcome::GaveUp && self.is_authorized {
            self.record.api_version(&self.target.api_version());
        }
        if let Some(trace) = &mut self.trace {
            trace.answer(
                reply
                    .as_ref()
                    .map_or_else(|error| error.code(&self.head.method), Response::status),
            );
        }
        reply
    }

    fn give_up(&self, why: NotReplayed) -> Ending {
        self.shared.metrics.not_replayed(why);
        Ending {
            outcome: Outcome::GaveUp,
            why: why.in_words(),
        }
    }

    fn final_answer(&self, class: Class) -> Ending {
        let outcome = match (class, self.attempts) {
            (Class::Success, 1) => Outcome::Created,
            (Class::Success, _) => Outcome::CreatedAfterReplay,
            (_, 1) => Outcome::Refused,
            (_, _) => Outcome::RefusedAfterReplay,
        };
        Ending {
            outcome,
            why: class.why(),
        }
    }
}

impl Drop for Create<'_> {
    fn drop(&mut self) {
        let (outcome, held) = (self.record.outcome(), self.record.held());
        self.shared
            .metrics
            .outcome(&self.target.namespace, &self.target.resource, outcome);
        let resolving = self.resolving.as_ref();
        if let Some(result) = resolving.and_then(|it| it.result(outcome)) {
            self.shared.metrics.ambiguous(result);
        }
        // How long a quota stays full says nothing about the proxy.
        if !held.is_zero() && self.queued.is_none() {
            self.shared.metrics.hold(held);
        }
        self.shared.metrics.overhead(
            RouteLabel::Create,
            self.started
                .elapsed()
                .saturating_sub(self.waited_for_others + held),
        );
        if let Some(trace) = self.trace.take() {
            trace.end(outcome.as_str(), held);
        }
    }
}

#[cfg(test)]
mod tests;
