//! One attempt of a create: its request, the answer, and what the answer proves.

use std::pin::pin;

use http::{Request, Response, StatusCode};
use tokio::time::Instant;

use super::Create;
use crate::body::{Body, BodyError, Buffered, Collected, collect_bounded, collect_within};
use crate::budget::NamespaceBudget;
use crate::error::ProxyError;
use crate::forward::until;
use crate::metrics::NotReplayed;
use crate::route::{CreateTarget, timeout};
use crate::status::Status;
use crate::upstream::Lease;
use crate::verdict::{Class, ClassifiedAnswer, Policy, Verdict, classify, verdict};

/// Larger answers are relayed as they stream and are not judged. The errors of an apiserver are far
/// smaller, and so are most objects.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// Memory for larger answers is reserved. Smaller ones are part of what every request may occupy,
/// and a quota conflict, of some hundred bytes, is judged even when no memory is left.
const MAX_UNRESERVED_BYTES: u64 = 8 << 10;

/// How many times as large as sent an object may be when it comes back: with `managedFields`,
/// defaults, and what webhooks add.
const OBJECT_GROWTH: u64 = 3;

/// The result of one attempt.
pub(super) enum Received {
    /// An answer too large to be buffered. It is relayed as it streams, so it is the last one.
    Streaming(Response<Body<Lease>>, Class),
    /// A whole answer or an error. The verdict decides whether to replay.
    Judged(ClassifiedAnswer, Result<Response<Buffered>, ProxyError>),
}

impl Create<'_> {
    /// Sends the create once and waits for the answer.
    pub(super) async fn attempt(&mut self) -> Received {
        self.attempts += 1;
        let sent = Instant::now();
        let (shared, settle) = (self.shared, self.settings.backoff.base);
        self.another_server_is_up = false;
        if let Some(resolving) = &mut self.resolving {
            resolving.sending();
        }
        let request = self.request(sent);
        let give_up_at = self.deadline.map(|deadline| deadline + timeout::GRACE);
        let received = {
            let receiving = pin!(async {
                match shared
                    .upstream
                    .create(&self.target.namespace, settle, request)
                    .await
                {
                    Ok(response) => self.judged(response).await,
                    Err(error) => Received::Judged(error.class().into(), Err(error.into())),
                }
            });
            until(give_up_at, receiving).await
        };
        let received = received
            .unwrap_or_else(|timed_out| Received::Judged(Class::Lost.into(), Err(timed_out)));
        let (class, code) = match &received {
            Received::Streaming(response, class) => (*class, Some(response.status())),
            Received::Judged(answer, reply) => {
                (answer.class, reply.as_ref().ok().map(Response::status))
            }
        };
        let code = code.map(|code| code.as_u16());
        self.shared.metrics.attempt(class.as_str(), code);
        let took = sent.elapsed();
        self.waited_for_others += took;
        self.longest_attempt = self.longest_attempt.max(took);
        if let Some(trace) = &mut self.trace {
            trace.attempt(class.as_str(), code);
        }
        if let Some(resolving) = &mut self.resolving {
            let body = match &received {
                Received::Judged(_, Ok(reply)) => Some(&*reply.body().data),
                _ => None,
            };
            resolving.answered(class, body);
        }
        self.record
            .attempt(code.ok_or(class.as_str()), class.as_str(), took);
        if class.is_after_authorization() && !self.is_authorized {
            self.is_authorized = true;
            self.shared.metrics.authorized(&self.target.namespace);
        }
        if class.is_quota_conflict() {
            self.shared.metrics.conflict(
                &self.target.namespace,
                &self.target.resource,
                class.as_str(),
            );
        }
        self.count(match &received {
            Received::Streaming(..) => Some(false),
            Received::Judged(_, reply) => reply
                .as_ref()
                .ok()
                .map(|reply| is_refusal(reply, self.target)),
        });
        received
    }

    /// Tells the rate limit and the budget whether the apiserver refused the caller. None: no
    /// answer came. A refused create counts for no limit and no budget.
    fn count(&mut self, refused: Option<bool>) {
        match (refused, self.first_create.take()) {
            (Some(refused), Some(first_create)) => first_create.answered(refused),
            (Some(true), None) => self.settings.rate_limit.refused(self.caller),
            // Without an answer, dropping `first_create` lets the next create of the caller go
            // first.
            (Some(false) | None, _) => {}
        }
        if refused == Some(false) {
            self.budget();
        }
    }

    pub(super) fn budget(&mut self) -> &NamespaceBudget {
        self.budget
            .get_or_insert_with(|| self.settings.budget.create(&self.target.namespace))
    }

    /// The request of this attempt.
    ///
    /// The apiserver measures `?timeout=` from the arrival of each request. So a replay asks for
    /// the remaining time only, and so does a first attempt that starts late. This way the
    /// apiserver's own 504 arrives before the proxy would write one.
    fn request(&mut self, now: Instant) -> Box<Request<Body>> {
        let mut request = Box::new(Request::new(Body::from(self.body.clone())));
        *request.method_mut() = self.head.method.clone();
        *request.headers_mut() = self.head.headers.clone();
        *request.uri_mut() = match self.deadline {
            Some(_) if self.attempts > 1 || now - self.started > timeout::GRACE / 2 => {
                timeout::shortened(&self.head.uri, now - self.started)
            }
            _ => None,
        }
        .unwrap_or_else(|| self.head.uri.clone());
        if let Some(trace) = &mut self.trace {
            trace.sending(request.headers_mut());
        }
        request
    }

    /// Reads an answer into memory, or says why it must be streamed instead.
    ///
    /// The memory of a large one stays reserved until the client has read it. The object of a create
    /// that can be resolved may be larger than other answers: if the answer breaks off, the object
    /// can still be looked up.
    pub(super) async fn collect(
        &self,
        body: &mut Body<Lease>,
    ) -> Result<Result<Buffered, NotReplayed>, BodyError> {
        if let Some(small) = collect_bounded(body, MAX_UNRESERVED_BYTES).await? {
            return Ok(Ok(small));
        }
        let grown = self
            .resolving
            .as_ref()
            .map_or(0, |_| OBJECT_GROWTH * self.body.data.len() as u64);
        let limit = MAX_ANSWER_BYTES + grown;
        Ok(
            match collect_within(body, limit, self.room.another(), None).await? {
                Collected::Whole(answer, room) => Ok(answer.in_room(room)),
                Collected::TooLarge => Err(NotReplayed::AnswerTooLarge),
                Collected::OverBudget | Collected::TooSlow => Err(NotReplayed::BufferFull),
            },
        )
    }

    /// Reads an answer and says what it proves.
    ///
    /// A success is read to its end too. If the apiserver dies while it writes, the client then
    /// gets an error of the proxy and not half an object.
    async fn judged(&mut self, response: Response<Body<Lease>>) -> Received {
        let (head, mut body) = response.into_parts();
        let lease = body.take_guard();
        if let (Some(trace), Some(lease)) = (&mut self.trace, &lease) {
            trace.answered_by(lease.server());
        }
        match self.collect(&mut body).await {
            Ok(Ok(body)) => {
                let answer = classify(head.status, &head.headers, &body.data);
                if let (
                    Verdict::Replay {
                        on_another_server: true,
                        ..
                    },
                    true,
                    Some(lease),
                ) = (
                    verdict(&answer, &Policy::default()),
                    self.target.is_served_by_kube_apiserver(),
                    lease,
                ) {
                    self.another_server_is_up =
                        self.shared.upstream.mark_down(lease, answer.class.why());
                }
                Received::Judged(answer, Ok(Response::from_parts(head, body)))
            }
            Ok(Err(why)) => {
                let class = if is_error(head.status) {
                    self.shared.metrics.not_replayed(why);
                    Class::Unrecognized
                } else {
                    Class::Success
                };
                Received::Streaming(Response::from_parts(head, body.with_guard(lease)), class)
            }
            Err(error) => {
                if let Some(lease) = lease {
                    lease.lost(&error);
                }
                Received::Judged(Class::Lost.into(), Err(ProxyError::AnswerLost(error)))
            }
        }
    }
}

/// Whether the apiserver refused the caller and not the object: the credentials are not valid, the
/// caller may not create there, or there is no such namespace or resource.
fn is_refusal(answer: &Response<Buffered>, target: &CreateTarget) -> bool {
    match answer.status() {
        StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => true,
        StatusCode::FORBIDDEN => Status::decode(&answer.body().data)
            .is_some_and(|status| is_unauthorized(&status, target)),
        _ => false,
    }
}

/// Both admission and authorization answer 403. Only authorization says this, and it names the
/// object only where the URL has its name. An apply needs two permissions: to patch, and to create
/// if there is no such object.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go>
fn is_unauthorized(status: &Status, target: &CreateTarget) -> bool {
    let may_not = |verb| status.message.contains(verb);
    match &target.applied {
        None => status.details.name.is_empty() && may_not(" cannot create resource "),
        // Admission names the object too, but it does not say who the user is.
        Some(_) => {
            status.message.contains(" is forbidden: User \"")
                && (may_not(" cannot patch resource ") || may_not(" cannot create resource "))
        }
    }
}

fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    #[test]
    fn only_authorization_refuses_the_caller() {
        let posted = CreateTarget::of("ns", "pods");
        let applied = CreateTarget {
            applied: Some("a".into()),
            ..posted.clone()
        };
        let rbac = |verb| format!(r#"User "u" cannot {verb} resource "pods" in API group """#);
        let forbidden = |object: &str, cause: String| format!("pods{object} is forbidden: {cause}");
        let webhook =
            r#"admission webhook "w" denied the request: you cannot patch resource "pods""#;
        let rows = [
            (&posted, "", forbidden("", rbac("create")), true),
            (&posted, "a", forbidden(r#" "a""#, rbac("create")), false),
            (
                &posted,
                "",
                forbidden("", "exceeded quota: q".into()),
                false,
            ),
            (&applied, "a", forbidden(r#" "a""#, rbac("patch")), true),
            (&applied, "a", forbidden(r#" "a""#, rbac("create")), true),
            (
                &applied,
                "a",
                forbidden(r#" "a""#, "exceeded quota: q".into()),
                false,
            ),
            (&applied, "a", webhook.into(), false),
        ];
        every(rows, |(target, name, message, refused)| {
            let answer = serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden",
                "message": message, "details": { "name": name, "kind": "pods" }, "code": 403,
            });
            let status = Status::decode(answer.to_string().as_bytes()).unwrap();
            assert_eq!(is_unauthorized(&status, target), refused);
        });
    }
}
