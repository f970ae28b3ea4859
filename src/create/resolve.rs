//! After an ambiguous answer: looks for the object with the caller's own credentials, and decides
//! between 201, 409, sending again, and the answer at hand. Only with `replay.ambiguous: Resolve`.
//!
//! `proof` says what proves that an object is of this create, and `claims` that it is no other
//! one's. The lookup is in `create/lookup.rs`.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER, WARNING};
use http::{HeaderValue, Response, StatusCode};
use tokio::time::Instant;
use tracing::debug;

use super::claims::{Claim, Taken};
use super::lookup::Finding;
use super::{Create, Creates, Ending};
use crate::body::{Buffered, Reservation};
use crate::config::Mode;
use crate::drain::Stage;
use crate::error::ProxyError;
use crate::metrics::{Ambiguity, NotReplayed};
use crate::proof;
use crate::route::CreateTarget;
use crate::status::{Encoding, Status};
use crate::verdict::{Class, ClassifiedAnswer, IfAbsent, Outcome, Safety};

/// Tells the client where its 201 comes from.
const FOUND: HeaderValue = HeaderValue::from_static(
    "299 kube-retry-proxy \"the answer of kube-apiserver to this create was lost; the object was looked up, and it is the one that was sent\"",
);

/// An answer to an attempt, or the error in its place.
pub(super) type Reply = Result<Response<Buffered>, ProxyError>;

/// What a create remembers to find its object.
#[derive(Debug)]
pub(super) struct Resolving {
    /// The name of the object. None: it has none, or it is not known for sure.
    pub(super) name: Option<String>,
    /// The `generateName` that the proxy has completed.
    pub(super) completed: Option<String>,
    /// How many names the proxy has chosen.
    pub(super) names: u32,
    /// None: the apiserver chooses the name.
    pub(super) claim: Option<Claim>,
    /// When the first attempt with this name was sent.
    pub(super) first_sent: Instant,
    /// The last ambiguous answer, from the first one on.
    ambiguous: Option<Reply>,
    /// How many lookups got no answer.
    pub(super) failed_lookups: u32,
    result: Option<Ambiguity>,
}

impl Creates {
    /// Enters a create among those that can be resolved, and completes its name if that is asked
    /// for. None: ambiguous answers are not resolved, or not for such a request.
    pub(super) async fn resolving(
        &self,
        settings: &super::CreateSettings,
        target: &CreateTarget,
        head: &mut http::request::Parts,
        body: &mut Buffered,
        room: &mut Reservation,
    ) -> Option<Box<Resolving>> {
        // A server-side apply may be sent again by its caller, because it changes nothing then.
        if !settings.resolves() || target.applied.is_some() {
            return None;
        }
        let mut resolving = Resolving::new();
        match proof::names(&body.data) {
            None => resolving.claim = Some(self.claims.nameless(target)),
            Some(names) if !names.name.is_empty() => {
                resolving.claim = Some(self.claims.named(target, &names.name));
                resolving.name = Some(names.name);
            }
            Some(names) if settings.completes_names() && !names.generate_name.is_empty() => {
                let before = body.data.len();
                resolving.completed = Some(names.generate_name);
                if self.complete(target, head, body, &mut resolving) {
                    // A few bytes. If there is no room for them, a limit is exceeded by that much.
                    let _fits = room.grow((body.data.len() - before) as u64).await;
                } else {
                    resolving.completed = None;
                }
            }
            Some(_) => {}
        }
        Some(Box::new(resolving))
    }
}

impl Resolving {
    fn new() -> Self {
        Self {
            name: None,
            completed: None,
            names: 0,
            claim: None,
            first_sent: Instant::now(),
            ambiguous: None,
            failed_lookups: 0,
            result: None,
        }
    }

    /// The next attempt is sent.
    pub(super) fn sending(&mut self) {
        // All earlier attempts provably stored nothing.
        if self.ambiguous.is_none() {
            self.first_sent = Instant::now();
        }
        if let Some(claim) = &mut self.claim {
            claim.sending();
        }
    }

    /// An attempt got this answer. A success stays in doubt for others if its name or its uid is
    /// not known.
    pub(super) fn answered(&mut self, class: Class, body: Option<&[u8]>) {
        let Some(claim) = &mut self.claim else { return };
        match body {
            Some(body) if class == Class::Success => {
                if let Some(uid) = self.name.as_ref().and_then(|_| proof::uid_of(body)) {
                    claim.told(&uid);
                }
            }
            _ if self.ambiguous.is_some() => {}
            _ if class.safety() == Safety::Safe || class == Class::AlreadyExists => {
                claim.nothing_stored();
            }
            _ => {}
        }
    }

    /// Whether an attempt had an ambiguous answer.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous.is_some()
    }

    /// What became of a create that ended with this outcome. None: no answer was ambiguous.
    pub(super) fn result(&self, outcome: Outcome) -> Option<Ambiguity> {
        self.ambiguous.as_ref()?;
        Some(self.result.unwrap_or(match outcome {
            Outcome::ClientGone => Ambiguity::ClientGone,
            outcome if outcome.is_stored() => Ambiguity::SentAgain,
            _ => Ambiguity::Refused,
        }))
    }
}

impl Create<'_> {
    /// Resolves an ambiguous answer, or a last answer that came after one. `at_hand` is how the
    /// create would end with this answer, if it is not ambiguous itself.
    ///
    /// **Invariant:** what is not proved is not told. 201 is told only for an object that `proof`
    /// and `claims` both call ours, 409 only for one that is provably somebody else's, and the
    /// create is sent again only if the apiserver says that there is no such object. In all other
    /// cases the client gets the ambiguous answer itself (tests in `tests/it/creates/resolve`).
    ///
    /// # Errors
    /// The end of the create, and its answer. Otherwise the create is to be sent again.
    pub(super) async fn resolve(
        &mut self,
        answer: ClassifiedAnswer,
        reply: Reply,
        if_absent: IfAbsent,
        at_hand: Option<Ending>,
    ) -> Result<(), (Ending, Reply)> {
        let is_own_exists = answer.class == Class::AlreadyExists;
        let mut refusal = None;
        let Some(resolving) = &mut self.resolving else {
            return Err(self.not_resolved(answer.class, reply));
        };
        match at_hand {
            Some(ending) => refusal = Some((ending, reply)),
            None => resolving.ambiguous = Some(reply),
        }
        if resolving.name.is_none() {
            return Err(self.in_doubt(
                Ambiguity::Unnamed,
                "its outcome is not known, and an object without a name cannot be looked for",
            ));
        }
        loop {
            if self
                .deadline
                .is_some_and(|deadline| deadline <= Instant::now())
            {
                return Err(self.in_doubt(
                    Ambiguity::Failed,
                    "its outcome is not known, and the client's own timeout has passed",
                ));
            }
            let releasing = self.shared.drain.clone();
            let found = tokio::select! {
                found = self.look() => found,
                () = releasing.reached(Stage::Releasing) => Finding::Stopping,
            };
            self.record.lookup(found.as_str());
            let wait = match found {
                Finding::Ours(uid, object) => match self.claim(&uid) {
                    Ok(()) => return Err(self.found(*object)),
                    Err(Taken::InFlight) => Duration::ZERO,
                    Err(Taken::Told) => {
                        let own = is_own_exists.then_some(refusal).flatten();
                        return Err(
                            self.exists("another create was told that the object is its own", own)
                        );
                    }
                    Err(Taken::Unknown) => {
                        return Err(self.in_doubt(
                            Ambiguity::Unproven,
                            "the object exists, and another create may have stored it",
                        ));
                    }
                },
                Finding::Foreign(why) => {
                    let own = is_own_exists.then_some(refusal).flatten();
                    return Err(self.exists(why, own));
                }
                Finding::Unproven(why) => return Err(self.in_doubt(Ambiguity::Unproven, why)),
                Finding::Forbidden => {
                    return Err(self.in_doubt(
                        Ambiguity::Forbidden,
                        "its outcome is not known, and the caller may not get the object",
                    ));
                }
                Finding::Stopping => {
                    let ending = self.give_up(NotReplayed::Draining);
                    return Err(self.in_doubt(Ambiguity::Failed, ending.why));
                }
                Finding::Failed(wait) => wait.unwrap_or_default(),
                Finding::Absent => {
                    return match (if_absent, refusal) {
                        (IfAbsent::SendAgain, _) => self.send_again(&answer).await,
                        (IfAbsent::Relay, Some(refusal)) => Err(refusal),
                        (IfAbsent::Relay, None) => {
                            let ending = self.final_answer(answer.class);
                            self.resolved(Ambiguity::Refused);
                            Err((ending, self.take_ambiguous()))
                        }
                        (IfAbsent::Ambiguous, _) => Err(self.in_doubt(
                            Ambiguity::Unproven,
                            "an object of this name existed a moment ago, and it may have been this one",
                        )),
                    };
                }
            };
            if let Some(resolving) = &mut self.resolving {
                resolving.failed_lookups += 1;
            }
            if let Err(ending) = self.pause(Class::Lost, wait).await {
                return Err(self.in_doubt(Ambiguity::Failed, ending.why));
            }
        }
    }

    /// How a create ends that cannot be resolved, with an ambiguous answer.
    pub(super) fn not_resolved(&mut self, class: Class, reply: Reply) -> (Ending, Reply) {
        if self.settings.mode == Mode::Observe {
            self.shared.metrics.ambiguous(Ambiguity::Relayed);
            self.shared.metrics.not_replayed(NotReplayed::ModeObserve);
            let ending = Ending {
                outcome: Outcome::Observed,
                why: "the object would have been looked for, but the mode is Observe",
            };
            return (ending, reply);
        }
        let result = if self.settings.policy.resolve {
            Ambiguity::Unnamed
        } else {
            Ambiguity::Relayed
        };
        self.shared.metrics.ambiguous(result);
        (self.final_answer(class), reply)
    }

    fn claim(&mut self, uid: &str) -> Result<(), Taken> {
        let resolving = self.resolving.as_mut().ok_or(Taken::Unknown)?;
        let sent = resolving.first_sent;
        resolving
            .claim
            .as_mut()
            .ok_or(Taken::Unknown)?
            .take(uid, sent)
    }

    async fn send_again(&mut self, answer: &ClassifiedAnswer) -> Result<(), (Ending, Reply)> {
        let wait = answer.retry_after.unwrap_or_default();
        match self.wait_to_replay(answer.class, wait, None).await {
            Ok(()) => Ok(()),
            Err(ending) => {
                self.resolved(Ambiguity::GaveUp);
                Err((ending, self.take_ambiguous()))
            }
        }
    }

    /// The object that was found, as the answer to its create.
    fn found(&mut self, object: Response<Buffered>) -> (Ending, Reply) {
        self.resolved(Ambiguity::Found);
        debug!(
            namespace = self.target.namespace,
            resource = self.target.resource,
            attempt = self.attempts,
            "Found the object of a create whose answer was lost"
        );
        let (head, body) = object.into_parts();
        let mut created = Response::new(body);
        *created.status_mut() = StatusCode::CREATED;
        *created.version_mut() = head.version;
        *created.headers_mut() = head.headers;
        created.headers_mut().append(WARNING, FOUND);
        let ending = Ending {
            outcome: Outcome::Resolved,
            why: "The answer was lost, and a lookup found the object that was sent.",
        };
        (ending, Ok(created))
    }

    /// The answer for an object of somebody else: `own` if the apiserver gave it, otherwise as the
    /// apiserver words it.
    fn exists(&mut self, why: &'static str, own: Option<(Ending, Reply)>) -> (Ending, Reply) {
        // The client did not choose this name.
        if self
            .resolving
            .as_ref()
            .is_some_and(|it| it.completed.is_some())
        {
            return self.in_doubt(Ambiguity::Unproven, why);
        }
        self.resolved(Ambiguity::Exists);
        if let Some((ending, reply)) = own {
            return (ending, reply);
        }
        let ending = Ending {
            why,
            ..self.final_answer(Class::AlreadyExists)
        };
        (ending, Ok(self.already_exists("already exists", 0)))
    }

    /// The 409 of the apiserver for the name of this create.
    ///
    /// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/api/errors/errors.go>
    pub(super) fn already_exists(&self, says: &str, retry_after: u32) -> Response<Buffered> {
        let name = self.resolving.as_ref().and_then(|it| it.name.as_deref());
        let name = name.unwrap_or_default();
        let (group, _, plural) = self.target.group_version_resource();
        let message = format!("{} \"{name}\" {says}", self.target.resource);
        let mut status = Status::new(409, "AlreadyExists", message);
        status.details.name = name.to_owned();
        status.details.group = group.to_owned();
        status.details.kind = plural.to_owned();
        status.details.retry_after_seconds = retry_after;
        let encoding = Encoding::negotiate(&self.head.headers);
        let mut response = Response::new(Buffered {
            data: status.encode(encoding),
            trailers: None,
        });
        *response.status_mut() = StatusCode::CONFLICT;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, encoding.content_type());
        if retry_after > 0 {
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_after));
        }
        response
    }

    /// The ambiguous answer, because nothing better is known.
    fn in_doubt(&mut self, result: Ambiguity, why: &'static str) -> (Ending, Reply) {
        self.resolved(result);
        let ending = Ending {
            outcome: self.final_answer(Class::Lost).outcome,
            why,
        };
        (ending, self.take_ambiguous())
    }

    fn resolved(&mut self, result: Ambiguity) {
        if let Some(resolving) = &mut self.resolving {
            resolving.result = Some(result);
        }
    }

    /// Takes the ambiguous answer, and leaves a note that there was one.
    fn take_ambiguous(&mut self) -> Reply {
        let resolving = self.resolving.as_mut();
        let taken = resolving.and_then(|it| it.ambiguous.replace(Err(ProxyError::TimedOut)));
        taken.unwrap_or(Err(ProxyError::TimedOut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An object that somebody else stored while this create waited for a quota must not look like
    /// its own.
    #[tokio::test(start_paused = true)]
    async fn only_attempts_that_can_have_stored_the_object_count() {
        let mut resolving = Resolving::new();
        let wait = || tokio::time::advance(std::time::Duration::from_secs(7));
        resolving.sending();
        wait().await;
        resolving.sending();
        assert_eq!(resolving.first_sent, Instant::now());
        resolving.ambiguous = Some(Err(ProxyError::TimedOut));
        wait().await;
        let in_doubt_since = resolving.first_sent;
        resolving.sending();
        assert_eq!(resolving.first_sent, in_doubt_since);
    }
}
