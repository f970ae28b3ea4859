//! The loop: buffer a create, send it, judge the answer, and send it again until the apiserver has
//! really decided.
//!
//! One final answer, the apiserver's own; a request is sent again only when the attempt before
//! provably stored nothing; nothing is held across a pause but the body and its place in the count.
//! Dropping the future, because the client left, stops it at any point.

mod pass;
mod replay;
mod settings;
mod target;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response, StatusCode, request};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use settings::Settings;
pub use target::Target;

use crate::body::{
    Body, BodyError, Buffered, Buffers, Collected, Reservation, collect_bounded, collect_within,
};
use crate::budget::NamespaceBudget;
use crate::config::Mode;
use crate::decisions::{Decisions, Record};
use crate::drain::Watcher;
use crate::error::ProxyError;
use crate::forward::until;
use crate::headers;
use crate::metrics::{Metrics, NotReplayed, Outcome, RouteLabel};
use crate::ratelimit::{Admitted, Ahead, Caller};
use crate::route::timeout;
use crate::status::{Status, object_meta};
use crate::trace::Tracer;
use crate::upstream::{Lease, Upstream};
use crate::verdict::{Answer, Class, Policy, Verdict, classify, verdict};

/// Answers larger than this are relayed as they stream, unjudged: an apiserver's error stays far
/// below, and so do most pods.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// The most that comes in one piece.
const MAX_SHARED: usize = 64 << 10;

/// How long a create's body may take to come. One that is slower passes as it comes, unreplayed,
/// and is the apiserver's to wait for; what had come of it occupies memory for no longer than that.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// What all creates share.
pub struct Creates {
    /// Replaced as a whole when the configuration is loaded again; a create keeps the one that it
    /// began with.
    pub settings: ArcSwap<Settings>,
    /// The way to the apiserver.
    pub upstream: Arc<Upstream>,
    /// Places for creates that wait between two attempts.
    pub held: Semaphore,
    /// Every create is a token of it, until it has its answer.
    pub in_flight: TaskTracker,
    /// Memory for bodies.
    pub buffers: Arc<Buffers>,
    /// Bytes of one body.
    pub max_body: u64,
    /// What was decided, for operators.
    pub decisions: Arc<Decisions>,
    /// Traces them, if that is asked for.
    pub tracer: Option<Arc<Tracer>>,
    /// What is told to Prometheus.
    pub metrics: Arc<Metrics>,
    /// Ends the holding.
    pub drain: Watcher,
}

/// The end of one attempt.
enum Attempt {
    /// An answer that is too large to be held: it is relayed as it streams.
    Final(Response<Body<Lease>>, Class),
    /// A whole answer, or the lack of one, that the verdict decides about.
    Judged(Answer, Result<Response<Buffered>, ProxyError>),
}

/// Why the answer at hand is the final one.
#[derive(Clone, Copy, Debug)]
struct Kept {
    outcome: Outcome,
    why: &'static str,
}

impl Creates {
    /// Answers one create.
    ///
    /// # Errors
    /// Where there is no answer of the apiserver to relay.
    pub async fn create(
        &self,
        target: Target,
        room: Reservation,
        mut request: Request<Body>,
    ) -> Result<Response<Body<Lease>>, ProxyError> {
        let started = Instant::now();
        let settings = self.settings.load_full();
        if settings.mode == Mode::Off {
            return self
                .pass(&settings, &target, request, NotReplayed::ModeOff, started)
                .await;
        }
        let (body, _room) = match self
            .read(&mut request, room, started)
            .await
            .map_err(ProxyError::RequestBody)?
        {
            Ok(whole) => whole,
            Err(why) => {
                return self
                    .pass_limited(&settings, &target, request, why, started)
                    .await;
            }
        };
        let read = started.elapsed();
        let (head, _) = request.into_parts();
        let deadline = timeout::of(&head.uri).map(|timeout| started + timeout);
        let mut record = self.decisions.begin(&target.namespace, &target.resource);
        if let Some(tracer) = &self.tracer {
            record.trace(tracer, &head, started);
        }
        if let Some(meta) = object_meta(&body.data) {
            record.object(&meta);
        }
        let caller = settings.rate_limit.caller(&head.headers, &target.namespace);
        let _in_flight = self.in_flight.token();
        let create = Create {
            all: self,
            settings: &settings,
            target: &target,
            budget: None,
            caller,
            ahead: None,
            head,
            body,
            started,
            deadline,
            attempts: 0,
            longest: Duration::ZERO,
            elsewhere: read,
            left: false,
            record: Some(record),
            ended: None,
        };
        create.run().await
    }

    /// Reads a create into memory; the reason, where it has to pass as it is.
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
                started + BODY_WITHIN,
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

/// One create on its way. However it ends, its drop tells how.
struct Create<'a> {
    all: &'a Creates,
    settings: &'a Settings,
    target: &'a Target,
    /// None until there was an answer that is no refusal, so that invented namespaces take no
    /// place.
    budget: Option<NamespaceBudget>,
    /// Whom the rate limit counts it for.
    caller: Option<Caller>,
    /// The others of its caller wait for its answer.
    ahead: Option<Ahead<'a>>,
    head: request::Parts,
    body: Buffered,
    started: Instant,
    /// The end of the client's own `?timeout=`.
    deadline: Option<Instant>,
    attempts: u32,
    /// How long the longest attempt took.
    longest: Duration,
    /// The time that was not the proxy's own: reading the body, waiting for the rate limit,
    /// attempts.
    elsewhere: Duration,
    /// The last answer came from a server that is going or coming, and another one is up.
    left: bool,
    /// Some until the drop.
    record: Option<Record>,
    ended: Option<Kept>,
}

impl Create<'_> {
    /// Runs the create until there is one final response.
    ///
    /// **Invariant:** one attempt is in flight at a time, and the next one starts only after the
    /// last one provably stored nothing. So the proxy never creates an object twice, and a client
    /// never gets `AlreadyExists` for an object of its own.
    ///
    /// - Only the verdict on the whole response of an attempt, or on the error that took its place,
    ///   allows a replay. An attempt whose response is lost may have stored the object, so it ends
    ///   the create.
    /// - Every way out of the loop answers with what the last attempt got, so the client sees the
    ///   apiserver's own words. The proxy's own error comes only if there is no response.
    /// - The outcome is counted in the drop. It is counted once, also if the client disconnects and
    ///   the future is dropped at an await.
    ///
    /// If a lost response counts as a refusal, the create is sent again and
    /// `a_create_whose_answer_is_lost_is_never_sent_again` fails.
    async fn run(mut self) -> Result<Response<Body<Lease>>, ProxyError> {
        match self
            .all
            .admit(self.settings, self.caller, self.target)
            .await
        {
            Ok(Admitted { waited, ahead }) => {
                self.elsewhere += waited;
                self.ahead = ahead;
            }
            Err(rejected) => {
                let kept = Kept {
                    outcome: Outcome::RateLimited,
                    why: "the rate limit of creates was reached",
                };
                return self.answer(kept, Err(ProxyError::RateLimited(rejected)));
            }
        }
        if self
            .deadline
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            let kept = Kept {
                outcome: Outcome::NoAnswer,
                why: "the client's own timeout had passed before it could be sent",
            };
            return self.answer(kept, Err(ProxyError::TimedOut));
        }
        loop {
            let (answer, reply) = match self.attempt().await {
                Attempt::Final(response, class) => {
                    let kept = self.final_answer(class);
                    return self.answer(kept, Ok(response));
                }
                Attempt::Judged(answer, reply) => (answer, reply),
            };
            if let Err(kept) = self.wait_to_replay(&answer).await {
                let kept = if reply.is_ok() {
                    kept
                } else {
                    Kept {
                        outcome: Outcome::NoAnswer,
                        ..kept
                    }
                };
                return self.answer(kept, reply.map(|response| response.map(Body::from)));
            }
        }
    }

    /// Ends the create with this answer.
    fn answer<T>(
        &mut self,
        kept: Kept,
        reply: Result<Response<T>, ProxyError>,
    ) -> Result<Response<T>, ProxyError> {
        self.ended = Some(kept);
        if let Some(record) = &mut self.record {
            record.answer(
                reply
                    .as_ref()
                    .map_or_else(|error| error.code(&self.head.method), Response::status),
            );
        }
        reply
    }

    async fn attempt(&mut self) -> Attempt {
        self.attempts += 1;
        let sent = Instant::now();
        let (all, settle) = (self.all, self.settings.backoff.base);
        self.left = false;
        let request = self.request(sent);
        let no_answer_after = self.deadline.map(|deadline| deadline + timeout::GRACE);
        let answered = until(no_answer_after, async {
            match all
                .upstream
                .create(&self.target.namespace, settle, request)
                .await
            {
                Ok(response) => self.judged(response).await,
                Err(error) => Attempt::Judged(error.class().into(), Err(error.into())),
            }
        });
        let attempt = answered
            .await
            .unwrap_or_else(|silent| Attempt::Judged(Class::Lost.into(), Err(silent)));
        let (class, code) = match &attempt {
            Attempt::Final(response, class) => (*class, Some(response.status())),
            Attempt::Judged(answer, reply) => {
                (answer.class, reply.as_ref().ok().map(Response::status))
            }
        };
        let code = code.map(|code| code.as_u16());
        self.all.metrics.attempt(class.as_str(), code);
        let took = sent.elapsed();
        self.elsewhere += took;
        self.longest = self.longest.max(took);
        if let Some(record) = &mut self.record {
            record.attempt(code.ok_or(class.as_str()), class.as_str(), took);
        }
        if class.is_quota_conflict() {
            self.all
                .metrics
                .conflict(&self.target.namespace, class.as_str());
        }
        self.count(match &attempt {
            Attempt::Final(..) => Some(false),
            Attempt::Judged(_, reply) => reply.as_ref().ok().map(is_refusal),
        });
        attempt
    }

    /// Tells the rate limit and the budget of an answer, a refusal or not, or that there was none.
    /// What the apiserver refuses counts for nobody.
    fn count(&mut self, refused: Option<bool>) {
        match (refused, self.ahead.take()) {
            (Some(refused), Some(ahead)) => ahead.answered(refused),
            (Some(true), None) => self.settings.rate_limit.refused(self.caller),
            // One that went ahead without an answer lets the next try.
            (Some(false) | None, _) => {}
        }
        if refused == Some(false) {
            self.budget();
        }
    }

    fn budget(&mut self) -> &NamespaceBudget {
        self.budget
            .get_or_insert_with(|| self.settings.budget.create(&self.target.namespace))
    }

    /// The request of this attempt. The apiserver's clock for `?timeout=` starts anew with each, so
    /// a replay asks for what is left, and so does a first attempt that begins late: the
    /// apiserver's own 504 is to be there before ours.
    fn request(&mut self, now: Instant) -> Request<Body> {
        let mut request = Request::new(Body::from(self.body.clone()));
        *request.method_mut() = self.head.method.clone();
        *request.headers_mut() = self.head.headers.clone();
        *request.uri_mut() = match self.deadline {
            Some(_) if self.attempts > 1 || now - self.started > timeout::GRACE / 2 => {
                timeout::shortened(&self.head.uri, now - self.started)
            }
            _ => None,
        }
        .unwrap_or_else(|| self.head.uri.clone());
        if let Some(record) = &mut self.record {
            record.sending(request.headers_mut());
        }
        request
    }

    /// Reads an answer and says what it proves. A success too is read to its end, so that the
    /// client gets it whole, or else learns that it was lost, even if the apiserver dies while
    /// it writes.
    async fn judged(&mut self, response: Response<Body<Lease>>) -> Attempt {
        let (head, mut body) = response.into_parts();
        let lease = body.take_guard();
        if let (Some(record), Some(lease)) = (&mut self.record, &lease) {
            record.answered_by(lease.server());
        }
        match collect_bounded(&mut body, MAX_ANSWER_BYTES).await {
            Ok(Some(body)) => {
                let answer = classify(head.status, &head.headers, &body.data);
                if let (
                    Verdict::Replay {
                        elsewhere: true, ..
                    },
                    Some(lease),
                ) = (verdict(&answer, &Policy::default()), lease)
                {
                    self.left = self.all.upstream.leave(lease, answer.class.why());
                }
                Attempt::Judged(answer, Ok(Response::from_parts(head, body)))
            }
            Ok(None) => {
                let class = if is_error(head.status) {
                    self.all.metrics.not_replayed(NotReplayed::AnswerTooLarge);
                    Class::Unrecognized
                } else {
                    Class::Success
                };
                Attempt::Final(Response::from_parts(head, body.with_guard(lease)), class)
            }
            Err(error) => {
                if let Some(lease) = lease {
                    lease.lost(&error);
                }
                Attempt::Judged(Class::Lost.into(), Err(ProxyError::AnswerLost(error)))
            }
        }
    }

    /// All pauses so far.
    fn held(&self) -> Duration {
        self.record.as_ref().map_or(Duration::ZERO, Record::held)
    }

    fn give_up(&self, why: NotReplayed) -> Kept {
        self.all.metrics.not_replayed(why);
        Kept {
            outcome: Outcome::GaveUp,
            why: why.in_words(),
        }
    }

    fn final_answer(&self, class: Class) -> Kept {
        let outcome = match (class, self.attempts) {
            (Class::Success, 1) => Outcome::Created,
            (Class::Success, _) => Outcome::CreatedAfterReplay,
            (_, 1) => Outcome::Refused,
            (_, _) => Outcome::RefusedAfterReplay,
        };
        Kept {
            outcome,
            why: class.why(),
        }
    }
}

impl Drop for Create<'_> {
    fn drop(&mut self) {
        let gone = Kept {
            outcome: Outcome::ClientGone,
            why: "the client left before there was an answer",
        };
        let Kept { outcome, why } = self.ended.unwrap_or(gone);
        self.all.metrics.outcome(&self.target.namespace, outcome);
        let held = self.held();
        if !held.is_zero() {
            self.all.metrics.hold(held);
        }
        self.all.metrics.overhead(
            RouteLabel::Create,
            self.started.elapsed().saturating_sub(self.elsewhere + held),
        );
        if let Some(record) = self.record.take() {
            record.finish(outcome, why);
        }
    }
}

/// Whether the caller may not create there at all, or nobody can: no credentials, no right, no such
/// namespace.
fn is_refusal(answer: &Response<Buffered>) -> bool {
    match answer.status() {
        StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => true,
        // Admission forbids objects, by their names; authorization forbids the verb.
        // <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go>
        StatusCode::FORBIDDEN => Status::decode(&answer.body().data).is_some_and(|status| {
            status.details.name.is_empty() && status.message.contains(" cannot create resource ")
        }),
        _ => false,
    }
}

fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}
