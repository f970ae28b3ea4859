//! Creates and deletes. A pod is charged to the quota first and stored afterwards. A failed store
//! does not refund the charge, as in the real apiserver.

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde_json::Value;

use super::super::amounts::Amounts;
use super::super::journal::{Entry, QuotaOutcome, Stored};
use super::super::object::{NewPod, Pod};
use super::super::quota::{Admitted, Charge, Denied};
use super::super::store::StoreError;
use super::super::wire;
use super::Apiserver;
use super::answer::{self, Answer, about};
use super::query::Query;
use super::target::{Resource, Target};
use crate::encoding::Encoding;
use crate::status::Status;

impl Apiserver {
    /// `POST` to a collection.
    pub(super) async fn create(
        &self,
        head: &Parts,
        target: &Target,
        query: &Query,
        body: Bytes,
        entry: &Entry,
    ) -> Answer {
        match target {
            Target::Collection {
                resource: Resource::Pods,
                namespace: Some(namespace),
            } => match self.create_pod(head, namespace, query, &body, entry).await {
                Ok(pod) => self.pod(head, StatusCode::CREATED, &pod),
                Err(status) => self.failure(head, *status),
            },
            Target::Collection {
                resource: Resource::ResourceQuotas,
                namespace: Some(namespace),
            } => self.create_quota(namespace, &body).map_or_else(
                |status| self.failure(head, *status),
                |quota| self.json(head, StatusCode::CREATED, wire::to_bytes(&quota)),
            ),
            Target::Namespaces(None) => self.create_namespace(&body).map_or_else(
                |status| self.failure(head, *status),
                |namespace| self.json(head, StatusCode::CREATED, wire::to_bytes(&namespace)),
            ),
            Target::Events => match serde_json::from_slice(&body) {
                Ok(event) => {
                    self.store.add_event(event);
                    self.json(head, StatusCode::CREATED, body)
                }
                Err(error) => self.failure(head, answer::bad_request(error.to_string())),
            },
            Target::Unknown => self.failure(head, answer::no_such_path()),
            _ => self.failure(head, answer::method_not_allowed()),
        }
    }

    /// `DELETE` of one pod. The pod is gone at once: there is no grace period.
    pub(super) async fn delete(&self, head: &Parts, target: &Target, query: &Query) -> Answer {
        let Target::Object {
            resource: Resource::Pods,
            namespace,
            name,
            subresource: None,
        } = target
        else {
            return self.failure(head, answer::method_not_allowed());
        };
        let deleted = if query.is_dry_run() {
            self.store.pod(namespace, name).ok_or(StoreError::NotFound)
        } else {
            self.machine
                .write(|| self.store.delete_pod(namespace, name))
                .await
        };
        match deleted {
            Ok(pod) => self.pod(head, StatusCode::OK, &pod),
            Err(_) => self.failure(head, answer::not_found("pods", name)),
        }
    }

    /// Encodes a pod as the request accepts it.
    pub(super) fn pod(&self, head: &Parts, code: StatusCode, pod: &Pod) -> Answer {
        self.object(head, code, |encoding| match encoding {
            Encoding::Protobuf => wire::pod_protobuf(pod),
            Encoding::Json | Encoding::Yaml => wire::pod_json(pod),
        })
    }

    /// Runs the checks in the apiserver's order, charges the quota and stores the pod.
    async fn create_pod(
        &self,
        head: &Parts,
        namespace: &str,
        query: &Query,
        body: &Bytes,
        entry: &Entry,
    ) -> Result<std::sync::Arc<Pod>, Box<Status>> {
        let mut pod = self.decoded(head, namespace, body)?;
        pod.manager = query.manager(&head.headers);
        let asked = if pod.name.is_empty() {
            &pod.generate_name
        } else {
            &pod.name
        };
        entry.note(|attempt| attempt.name.clone_from(asked));
        self.open(namespace, "pods", &pod.name)?;
        if pod.name.is_empty() && pod.generate_name.is_empty() {
            return Err(nameless().into());
        }
        if pod.name.is_empty() {
            pod.name = format!("{}{}", pod.generate_name, self.dice.suffix());
        }
        let dry_run = query.is_dry_run();
        let charge = Charge {
            namespace: namespace.to_owned(),
            usage: pod.usage.clone(),
            unspecified: std::mem::take(&mut pod.unspecified),
            dry_run,
        };
        let verdict = self.evaluator.evaluate(charge).await;
        entry.note(|attempt| attempt.quota = outcome(&verdict));
        verdict.map_err(|denied| Box::new(refusal(&denied, "pods", &pod.name)))?;
        let name = pod.name.clone();
        if dry_run {
            return match self.store.pod(namespace, &name) {
                Some(_) => Err(exists("pods", &name).into()),
                None => Ok(Pod {
                    posted: pod,
                    uid: self.dice.uid(),
                    revision: 0,
                    created: time::OffsetDateTime::now_utc(),
                }
                .into()),
            };
        }
        // The journal is updated together with the store, so that it has every stored pod even if
        // the client has left.
        let stored = self.machine.write(|| {
            let stored = self.store.create_pod(pod);
            if let Ok(pod) = &stored {
                let record = Stored {
                    namespace: namespace.to_owned(),
                    name: name.clone(),
                    uid: pod.uid.clone(),
                };
                entry.note(|attempt| attempt.stored = Some(record));
            }
            stored
        });
        stored.await.map_err(|error| match error {
            StoreError::Exists | StoreError::Conflict => exists("pods", &name).into(),
            StoreError::NotFound => answer::not_found("namespaces", namespace).into(),
        })
    }

    fn decoded(&self, head: &Parts, namespace: &str, body: &Bytes) -> Result<NewPod, Box<Status>> {
        let media_type = head
            .headers
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("application/json");
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        if !matches!(
            media_type,
            "application/json" | "application/vnd.kubernetes.protobuf"
        ) {
            return Err(answer::unsupported_media_type().into());
        }
        let mut pod = wire::parse_pod(body)
            .map_err(|malformed| Box::new(answer::bad_request(malformed.to_string())))?;
        if !pod.namespace.is_empty() && pod.namespace != namespace {
            const MISMATCH: &str = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(answer::bad_request(MISMATCH).into());
        }
        namespace.clone_into(&mut pod.namespace);
        Ok(pod)
    }

    /// Checks what the NamespaceLifecycle plugin checks.
    pub(super) fn open(
        &self,
        namespace: &str,
        resource: &str,
        name: &str,
    ) -> Result<(), Box<Status>> {
        let Some(found) = self.store.namespace(namespace) else {
            return Err(answer::not_found("namespaces", namespace).into());
        };
        if !found.terminating {
            return Ok(());
        }
        let message = format!(
            "{resource} \"{name}\" is forbidden: unable to create new content in namespace {namespace} because it is being terminated"
        );
        let cause = format!("namespace {namespace} is being terminated");
        Err(about(403, "Forbidden", message, resource, name)
            .caused_by("NamespaceTerminating", &cause)
            .into())
    }

    fn create_namespace(&self, body: &[u8]) -> Result<Value, Box<Status>> {
        let name = posted_name(body)?;
        let namespace = self
            .store
            .create_namespace(&name)
            .map_err(|_| Box::new(exists("namespaces", &name)))?;
        Ok(wire::namespace_json(&namespace))
    }

    /// Stores a quota without a status, which the quota controller computes later, as in a real
    /// cluster.
    fn create_quota(&self, namespace: &str, body: &[u8]) -> Result<Value, Box<Status>> {
        let name = posted_name(body)?;
        let object: Value = serde_json::from_slice(body).unwrap_or_default();
        let hard = object.pointer("/spec/hard").and_then(Value::as_object);
        let quantities = hard
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
        let hard = Amounts::parse(quantities)
            .ok_or_else(|| Box::new(answer::bad_request("spec.hard: not a quantity")))?;
        let quota =
            self.store
                .create_quota(namespace, &name, hard)
                .map_err(|error| match error {
                    StoreError::NotFound => Box::new(answer::not_found("namespaces", namespace)),
                    StoreError::Exists | StoreError::Conflict => {
                        Box::new(exists("resourcequotas", &name))
                    }
                })?;
        Ok(wire::quota_json(&quota))
    }
}

fn posted_name(body: &[u8]) -> Result<String, Box<Status>> {
    let object: Value = serde_json::from_slice(body)
        .map_err(|error| Box::new(answer::bad_request(error.to_string())))?;
    let name = object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if name.is_empty() {
        Err(nameless().into())
    } else {
        Ok(name.to_owned())
    }
}

pub(super) fn nameless() -> Status {
    const MESSAGE: &str =
        "Pod \"\" is invalid: metadata.name: Required value: name or generateName is required";
    about(422, "Invalid", MESSAGE.into(), "Pod", "").caused_by(
        "FieldValueRequired",
        "Required value: name or generateName is required",
    )
}

pub(super) fn exists(kind: &str, name: &str) -> Status {
    about(
        409,
        "AlreadyExists",
        format!("{kind} \"{name}\" already exists"),
        kind,
        name,
    )
}

pub(super) fn outcome(verdict: &Result<Admitted, Denied>) -> QuotaOutcome {
    match verdict {
        Ok(Admitted::Unlimited) => QuotaOutcome::Unlimited,
        Ok(Admitted::Charged) => QuotaOutcome::Charged,
        Ok(Admitted::DryRun) => QuotaOutcome::DryRun,
        Err(Denied::Conflict { .. }) => QuotaOutcome::Conflict,
        Err(Denied::Exceeded { .. }) => QuotaOutcome::Exceeded,
        Err(_) => QuotaOutcome::Denied,
    }
}

/// The error that the client gets when the quota evaluator denies a create.
pub(super) fn refusal(denied: &Denied, resource: &str, name: &str) -> Status {
    match denied {
        Denied::Conflict { quota } => {
            let message = format!(
                "Operation cannot be fulfilled on resourcequotas \"{quota}\": the object has been modified; please apply your changes to \
                 the latest version and try again"
            );
            about(409, "Conflict", message, "resourcequotas", quota)
        }
        Denied::TimedOut => answer::internal("resource quota evaluation timed out"),
        Denied::Gone { quota } => answer::not_found("resourcequotas", quota),
        Denied::Exceeded { .. } | Denied::Unspecified { .. } | Denied::StatusUnknown { .. } => {
            about(
                403,
                "Forbidden",
                format!("{resource} \"{name}\" is forbidden: {denied}"),
                resource,
                name,
            )
        }
    }
}
