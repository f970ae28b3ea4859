//! Completes a `generateName` before the first attempt, so that the object can be looked for by its
//! name. Only with `replay.completeGenerateName`.

use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use tokio::time::Instant;

use super::resolve::{Reply, Resolving};
use super::{Create, Creates, Ending};
use crate::body::Buffered;
use crate::proof;
use crate::route::CreateTarget;
use crate::status::Status;
use crate::verdict::{Class, ClassifiedAnswer};

/// How many names the apiserver tries for a `generateName`.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/registry/generic/registry/store.go>
const MAX_NAMES: u32 = 8;

impl Creates {
    /// Fills a new name into the body. Returns whether that was possible.
    pub(super) fn complete(
        &self,
        target: &CreateTarget,
        head: &mut http::request::Parts,
        body: &mut Buffered,
        resolving: &mut Resolving,
    ) -> bool {
        let signed = ["digest", "content-digest", "content-md5", "repr-digest"];
        if signed.iter().any(|name| head.headers.contains_key(*name)) {
            return false;
        }
        let random = |below| fastrand::usize(..below);
        let base = resolving.completed.as_deref().unwrap_or_default();
        let Some(name) = proof::generated_name(base, random) else {
            return false;
        };
        let old = resolving.name.as_deref().unwrap_or_default();
        let Some(named) = proof::with_name(&body.data, old, &name) else {
            return false;
        };
        body.data = named.into();
        if head.headers.contains_key(CONTENT_LENGTH) {
            let length = HeaderValue::from(body.data.len());
            head.headers.insert(CONTENT_LENGTH, length);
        }
        resolving.names += 1;
        resolving.claim = Some(self.claims.named(target, &name));
        resolving.name = Some(name);
        resolving.first_sent = Instant::now();
        true
    }
}

impl Create<'_> {
    /// Chooses another name, if the proxy chose the one that `answer` says exists. The apiserver
    /// would do the same, and it stored nothing. None: the client chose the name.
    pub(super) fn choose_another_name(
        &mut self,
        answer: &ClassifiedAnswer,
        reply: &Reply,
    ) -> Option<Result<(), (Ending, Reply)>> {
        let resolving = self.resolving.as_mut()?;
        if answer.class != Class::AlreadyExists
            || resolving.completed.is_none()
            || resolving.is_ambiguous()
        {
            return None;
        }
        // It could name another object that the apiserver makes along with this one.
        let (group, _, plural) = self.target.group_version_resource();
        let about = reply.as_ref().ok();
        let about = about.and_then(|reply| Status::decode(&reply.body().data))?;
        if about.details.kind != plural || about.details.group != group {
            return None;
        }
        let may_try = resolving.names < MAX_NAMES && self.may_send_at_once(answer.class);
        let resolving = self.resolving.as_mut()?;
        if may_try
            && self
                .shared
                .complete(self.target, &mut self.head, &mut self.body, resolving)
        {
            return Some(Ok(()));
        }
        let ending = self.final_answer(Class::GenerateNameExhausted);
        const EXHAUSTED: &str =
            "already exists, the server was not able to generate a unique name for the object";
        Some(Err((ending, Ok(self.already_exists(EXHAUSTED, 1)))))
    }
}
