//! One apiserver: HTTP handlers over the shared store and its own quota evaluator.
//!
//! Knows requests and answers, not sockets: `serve` feeds it. Every request enters the journal, may
//! meet a fault, and is then handled in a task of its own, so that what has begun is finished also
//! when the client or the timeout gave up: that is what makes a 504 ambiguous.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::faults::{Canned, Fault, Faults};
use super::journal::{Entry, Journal};
use super::machine::Machine;
use super::quota::Evaluator;
use super::store::Store;
use super::tasks::Tasks;
use super::tokens::Tokens;
use crate::body::{BodyError, whole};
use crate::encoding::Encoding;
use crate::status::Status;

mod answer;
mod create;
mod discovery;
mod endpoints;
mod extras;
mod logs;
mod query;
mod read;
mod target;
mod tunnel;
mod watch;

use answer::Answer;
pub use answer::Body;
pub use endpoints::Endpoints;
pub use logs::Logs;
use query::Query;
use target::Target;

/// `MaxRequestBodyBytes`.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apiserver/pkg/server/config.go#L426>
const MAX_BODY: usize = 3 << 20;

/// `RequestTimeout`, which `?timeout=` can only shorten.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What one apiserver works with.
#[derive(Debug)]
pub struct Apiserver {
    /// Its place among the apiservers, from 0.
    pub index: usize,
    /// Shared with the other apiservers.
    pub store: Arc<Store>,
    /// Shared with the other apiservers.
    pub machine: Arc<Machine>,
    /// Shared with the other apiservers.
    pub journal: Arc<Journal>,
    /// Shared with the other apiservers.
    pub tokens: Tokens,
    /// Shared with the other apiservers.
    pub logs: Arc<Logs>,
    /// Shared with the other apiservers.
    pub endpoints: Arc<tokio::sync::watch::Sender<Endpoints>>,
    /// Its own.
    pub evaluator: Evaluator,
    /// Its own.
    pub faults: Arc<Faults>,
    /// Names for `generateName`, audit ids.
    pub dice: super::dice::Dice,
    /// How late clients hear of changes.
    pub watch_latency: Duration,
    /// Where its work is done.
    pub tasks: Tasks,
}

/// The connection that a request came on.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Unique over all apiservers.
    pub id: u64,
    /// Ends the connection after the answers under way (GOAWAY).
    pub leave: CancellationToken,
    /// Ends the connection at once.
    pub cut: CancellationToken,
}

/// The request gets no answer: its stream is reset, or its HTTP/1.1 connection closed.
#[derive(Debug, thiserror::Error)]
#[error("the request is dropped on purpose")]
pub struct Dropped(#[source] h2::Error);

impl Dropped {
    fn because(reason: h2::Reason) -> Dropped {
        Dropped(reason.into())
    }
}

impl Apiserver {
    /// Answers one request.
    pub async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Connection,
    ) -> Result<Response<Body>, Dropped> {
        let (head, body) = request.into_parts();
        if head.uri.path() == "/readyz" && !head.headers.contains_key(http::header::AUTHORIZATION) {
            if head.version == http::Version::HTTP_2 {
                // https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apiserver/pkg/endpoints/filters/authentication.go#L101-L109
                connection.leave.cancel();
            }
            // Probes come by themselves: they are no part of what a test journals and scripts.
            // kube-apiserver lets anybody read this.
            return Ok(answer::canned(self.faults.readyz().unwrap_or_else(|| {
                Canned::new(StatusCode::OK, "text/plain; charset=utf-8", "ok")
            })));
        }
        let entry = self.journal.arrive(self.index, connection.id, &head);
        let create = head.method == Method::POST && head.uri.path().ends_with("/pods");
        let head_only = head.method == Method::HEAD;
        let fault = self.faults.take(create);
        match fault {
            Some(Fault::Reset) => return Err(Dropped::because(h2::Reason::INTERNAL_ERROR)),
            Some(Fault::Refuse) => return Err(Dropped::because(h2::Reason::REFUSED_STREAM)),
            Some(Fault::Cut) => return Err(cut(&connection).await),
            _ => {}
        }
        let mut answer = self
            .answered(head, body, fault.as_ref(), &connection, &entry)
            .await;
        match fault {
            Some(Fault::LoseAnswer) => return Err(Dropped::because(h2::Reason::INTERNAL_ERROR)),
            Some(Fault::CutAfter) => return Err(cut(&connection).await),
            Some(Fault::DelayAnswer(delay)) => sleep(delay).await,
            Some(Fault::Truncate) => answer.body_mut().truncate(),
            Some(Fault::GoAway) => connection.leave.cancel(),
            _ => {}
        }
        if head_only {
            answer = answer::without_body(answer);
        }
        entry.note(|attempt| attempt.status = Some(answer.status()));
        answer.body_mut().report_to(entry);
        Ok(answer)
    }

    async fn answered(
        self: &Arc<Self>,
        head: Parts,
        body: Incoming,
        fault: Option<&Fault>,
        connection: &Connection,
        entry: &Entry,
    ) -> Answer {
        if !self.tokens.admit(&head.headers) {
            if head.version == http::Version::HTTP_2 {
                // https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apiserver/pkg/endpoints/filters/authentication.go#L118
                connection.leave.cancel();
            }
            return self.failure(&head, answer::unauthorized());
        }
        let target = Target::of(head.uri.path());
        let query = Query::of(&head.uri);
        if !matches!(fault, Some(Fault::Answer(_) | Fault::AnswerAfter(..))) {
            if head.uri.path() == endpoints::PATH && head.method == Method::GET {
                return self.endpoint_slices(&head, &query);
            }
            if tunnel::wanted(&head.headers) && target.is_upgradable() {
                return self.tunnel(head, body);
            }
            if query.is_set("watch") && head.method == Method::GET {
                return self.watch(&head, &target, &query);
            }
            if query.is_set("follow") && target.subresource() == Some("log") {
                return self.log(&head, &target, true);
            }
        }
        let limit = query
            .timeout()
            .map_or(REQUEST_TIMEOUT, |timeout| timeout.min(REQUEST_TIMEOUT));
        let (server, fault, entry, shown) =
            (self.clone(), fault.cloned(), entry.clone(), head.clone());
        let handling = self.tasks.spawn(async move {
            server
                .handled(head, body, fault, target, query, entry)
                .await
        });
        match tokio::time::timeout(limit, handling).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(panicked)) => match panicked.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => self.failure(&shown, answer::internal("the apiserver is stopping")),
            },
            Err(_) => self.failure(&shown, answer::timed_out(limit)),
        }
    }

    /// Handles a short request to its end, whoever still waits for it.
    async fn handled(
        &self,
        head: Parts,
        body: Incoming,
        fault: Option<Fault>,
        target: Target,
        query: Query,
        entry: Entry,
    ) -> Answer {
        let (body, trailers) = match whole(body, head.version, MAX_BODY).await {
            Ok(whole) => (whole.data, whole.trailers),
            Err(BodyError::TooLarge) => return self.failure(&head, answer::too_large()),
            // Nobody is there to read this answer.
            Err(_) => return self.failure(&head, answer::bad_request("unexpected EOF")),
        };
        entry.note(|attempt| {
            attempt.body = body.len();
            attempt.trailers.clone_from(&trailers);
        });
        match fault {
            Some(Fault::Answer(canned)) => return answer::canned(canned),
            Some(Fault::AnswerAfter(delay, canned)) => {
                sleep(delay).await;
                return answer::canned(canned);
            }
            Some(Fault::Stall(delay)) => sleep(delay).await,
            Some(Fault::Hold) => self.faults.held().await,
            _ => {}
        }
        if let Target::Extra(path) = &target {
            return extras::answer(path, &head, &body, trailers.as_ref());
        }
        self.machine.receive().await;
        let answer = match head.method {
            Method::GET | Method::HEAD => self.read(&head, &target, &query),
            Method::POST => self.create(&head, &target, &query, body, &entry).await,
            Method::DELETE => self.delete(&head, &target, &query).await,
            _ => self.failure(&head, answer::method_not_allowed()),
        };
        self.machine.respond().await;
        answer
    }

    /// An error in the encoding that the request accepts.
    fn failure(&self, head: &Parts, status: Status) -> Answer {
        self.object(
            head,
            u16::try_from(status.code)
                .ok()
                .and_then(|code| StatusCode::from_u16(code).ok())
                .unwrap_or_default(),
            |encoding| status.encode(encoding),
        )
    }

    /// An object in the encoding that the request accepts, with the headers that every answer of an
    /// apiserver has.
    fn object(
        &self,
        head: &Parts,
        code: StatusCode,
        encode: impl FnOnce(Encoding) -> Bytes,
    ) -> Answer {
        let encoding = Encoding::accepted(&head.headers);
        answer::headed(
            head,
            &self.dice,
            code,
            encoding.content_type(),
            Body::full(encode(encoding)),
        )
    }
}

/// Cuts the connection; hyper drops this future with it.
async fn cut(connection: &Connection) -> Dropped {
    connection.cut.cancel();
    std::future::pending().await
}
