//! One apiserver: HTTP handlers over the shared store and its own quota evaluator.
//!
//! This module handles requests and answers; `serve` handles the sockets. Every request is recorded
//! in the journal and may meet a fault. A task of its own handles it, so the work completes even
//! when the client has left or the request has timed out. This is why a 504 says nothing about
//! whether the pod was stored.

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
mod others;
mod query;
mod read;
mod target;
mod tunnel;
mod watch;
mod watch_quotas;

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

/// `RequestTimeout`. `?timeout=` can only shorten it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The state of one apiserver.
#[derive(Debug)]
pub struct Apiserver {
    /// The index of this apiserver; the first one has 0.
    pub index: usize,
    /// The store of the whole control plane.
    pub store: Arc<Store>,
    /// The CPUs and the disk that all apiservers share.
    pub machine: Arc<Machine>,
    /// The record of all requests to all apiservers.
    pub journal: Arc<Journal>,
    /// The tokens that every apiserver accepts.
    pub tokens: Tokens,
    /// The container logs that every apiserver serves.
    pub logs: Arc<Logs>,
    /// The EndpointSlice of the Service `kubernetes`, the same in every apiserver.
    pub endpoints: Arc<tokio::sync::watch::Sender<Endpoints>>,
    /// The quota evaluator of this apiserver alone.
    pub evaluator: Evaluator,
    /// The faults of this apiserver alone.
    pub faults: Arc<Faults>,
    /// The source of generated names and audit ids.
    pub dice: super::dice::Dice,
    /// The delay before a watch delivers a change.
    pub watch_latency: Duration,
    /// The set that the tasks of this apiserver belong to.
    pub tasks: Tasks,
}

/// The connection on which a request arrived.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Unique over all apiservers.
    pub id: u64,
    /// Closes the connection after the answers in flight: GOAWAY over HTTP/2.
    pub go_away: CancellationToken,
    /// Closes the connection at once.
    pub cut: CancellationToken,
}

/// The request gets no answer: its stream is reset, or its HTTP/1.1 connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the request is dropped on purpose")]
pub struct Dropped(#[source] h2::Error);

impl Dropped {
    fn because(reason: h2::Reason) -> Dropped {
        Dropped(reason.into())
    }
}

impl Apiserver {
    /// Records one request, applies its fault if there is one, and answers it.
    pub async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Connection,
    ) -> Result<Response<Body>, Dropped> {
        let (head, body) = request.into_parts();
        if head.uri.path() == "/readyz" && !head.headers.contains_key(http::header::AUTHORIZATION) {
            if head.version == http::Version::HTTP_2 {
                // https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apiserver/pkg/endpoints/filters/authentication.go#L101-L109
                connection.go_away.cancel();
            }
            // The proxy sends probes on its own schedule, so the journal and the scripted faults
            // exclude them. kube-apiserver lets anyone read this path.
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
            Some(Fault::GoAway) => connection.go_away.cancel(),
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
                connection.go_away.cancel();
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

    /// Runs the handler of a short request to its end, even if nobody waits for the answer.
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
            // Nobody reads this answer: the client has left.
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
        if let Target::Other(other) = &target {
            let answer = self
                .other(&head, other.parts(), &query, &body, &entry)
                .await;
            self.machine.respond().await;
            return answer;
        }
        let answer = match head.method {
            Method::GET | Method::HEAD => self.read(&head, &target, &query),
            Method::POST => self.create(&head, &target, &query, body, &entry).await,
            Method::DELETE => self.delete(&head, &target, &query).await,
            _ => self.failure(&head, answer::method_not_allowed()),
        };
        self.machine.respond().await;
        answer
    }

    /// Encodes an error in the encoding that the request accepts.
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

    /// Encodes an object as the request accepts it, and adds the headers of every apiserver answer.
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

/// Cuts the connection and waits: hyper drops this future together with the connection.
async fn cut(connection: &Connection) -> Dropped {
    connection.cut.cancel();
    std::future::pending().await
}
