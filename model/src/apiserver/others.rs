//! Objects that are neither pods nor quotas: create, server-side apply, get and delete, in JSON
//! only. A create and an apply that creates are charged to the quota first, as pods are.
//!
//! A server-side apply replaces the whole object. Nobody else owns fields of it.

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::Value;

use super::super::journal::{Entry, Stored};
use super::super::quota::Charge;
use super::super::store::{OtherKey, StoreError};
use super::super::wire;
use super::Apiserver;
use super::answer::{self, Answer};
use super::create::{exists, nameless, outcome, refusal};
use super::query::Query;
use crate::status::Status;

impl Apiserver {
    /// Answers a request for a collection (`name` is `None`) or an object of `resource`.
    pub(super) async fn other(
        &self,
        head: &Parts,
        (namespace, resource, name): (&str, &str, Option<&str>),
        query: &Query,
        body: &Bytes,
        entry: &Entry,
    ) -> Answer {
        let key = |name: &str| OtherKey {
            namespace: namespace.to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
        };
        let manager = query.manager(&head.headers);
        let answered = match (&head.method, name) {
            (&Method::POST, None) => match self.posted(body) {
                Ok((name, object)) => {
                    self.put(key(&name), object, &manager, query, entry, false)
                        .await
                }
                Err(status) => Err(status),
            },
            (&Method::PATCH, Some(name)) if is_apply(head) => match parsed(body) {
                Ok(object) => self.put(key(name), object, "", query, entry, true).await,
                Err(status) => Err(status),
            },
            (&Method::GET | &Method::HEAD, Some(name)) => self
                .store
                .other(&key(name))
                .map(|object| (StatusCode::OK, object))
                .ok_or_else(|| answer::not_found(resource, name).into()),
            (&Method::DELETE, Some(name)) => {
                let key = key(name);
                let deleted = self.machine.write(|| self.store.delete_other(&key)).await;
                deleted
                    .map(|object| (StatusCode::OK, object))
                    .map_err(|_| answer::not_found(resource, name).into())
            }
            _ => Err(answer::method_not_allowed().into()),
        };
        match answered {
            Ok((code, object)) => self.json(head, code, wire::to_bytes(&*object)),
            Err(status) => self.failure(head, *status),
        }
    }

    /// The name of a posted object, and the object.
    fn posted(&self, body: &[u8]) -> Result<(String, Value), Box<Status>> {
        let object = parsed(body)?;
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
        let name = match (text("/metadata/name"), text("/metadata/generateName")) {
            (Some(name), _) if !name.is_empty() => name.to_owned(),
            (_, Some(prefix)) if !prefix.is_empty() => format!("{prefix}{}", self.dice.suffix()),
            _ => return Err(nameless().into()),
        };
        Ok((name, object))
    }

    async fn put(
        &self,
        key: OtherKey,
        object: Value,
        manager: &str,
        query: &Query,
        entry: &Entry,
        apply: bool,
    ) -> Result<(StatusCode, std::sync::Arc<Value>), Box<Status>> {
        entry.note(|attempt| attempt.name.clone_from(&key.name));
        self.open(&key.namespace, &key.resource, &key.name)?;
        let created = self.store.other(&key).is_none();
        if created {
            let verdict = self.evaluator.evaluate(Charge {
                namespace: key.namespace.clone(),
                usage: key.usage(),
                unspecified: Vec::new(),
                dry_run: query.is_dry_run(),
            });
            let verdict = verdict.await;
            entry.note(|attempt| attempt.quota = outcome(&verdict));
            verdict.map_err(|denied| Box::new(refusal(&denied, &key.resource, &key.name)))?;
        }
        let code = if created || !apply {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        if query.is_dry_run() {
            return Ok((code, object.into()));
        }
        let written = self.machine.write(|| {
            let stored = self.store.put_other(&key, object, manager, apply);
            if let (true, Ok(object)) = (created, &stored) {
                let uid = object.pointer("/metadata/uid").and_then(Value::as_str);
                let record = Stored {
                    namespace: key.namespace.clone(),
                    name: format!("{}/{}", key.resource, key.name),
                    uid: uid.unwrap_or_default().to_owned(),
                };
                entry.note(|attempt| attempt.stored = Some(record));
            }
            stored
        });
        match written.await {
            Ok(object) => Ok((code, object)),
            Err(StoreError::NotFound) => {
                Err(answer::not_found("namespaces", &key.namespace).into())
            }
            Err(_) => Err(exists(&key.resource, &key.name).into()),
        }
    }
}

fn parsed(body: &[u8]) -> Result<Value, Box<Status>> {
    let object: Value = serde_json::from_slice(body)
        .map_err(|error| Box::new(answer::bad_request(error.to_string())))?;
    match object {
        Value::Object(_) => Ok(object),
        _ => Err(answer::bad_request("the body is not an object").into()),
    }
}

fn is_apply(head: &Parts) -> bool {
    let content_type = head.headers.get(http::header::CONTENT_TYPE);
    content_type.is_some_and(|value| {
        value
            .as_bytes()
            .starts_with(b"application/apply-patch+yaml")
    })
}
