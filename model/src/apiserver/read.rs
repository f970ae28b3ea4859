//! Get and list requests.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode};

use super::super::wire;
use super::Apiserver;
use super::answer::{self, Answer, Body};
use super::discovery;
use super::query::Query;
use super::target::{Resource, Target};
use crate::encoding::Encoding;

impl Apiserver {
    /// Answers every `GET` that is not a stream.
    pub(super) fn read(&self, head: &Parts, target: &Target, query: &Query) -> Answer {
        match target {
            Target::Discovery(path) => match discovery::document(path) {
                Some((content_type, document)) => answer::headed(
                    head,
                    &self.dice,
                    StatusCode::OK,
                    HeaderValue::from_static(content_type),
                    Body::full(document),
                ),
                None => self.failure(head, answer::no_such_path()),
            },
            Target::Namespaces(None) => {
                let (namespaces, revision) = self.store.namespaces();
                let items = namespaces
                    .iter()
                    .map(|namespace| wire::namespace_json(namespace))
                    .collect();
                self.json(
                    head,
                    StatusCode::OK,
                    wire::list_json("NamespaceList", items, revision),
                )
            }
            Target::Namespaces(Some(name)) => match self.store.namespace(name) {
                Some(namespace) => self.json(
                    head,
                    StatusCode::OK,
                    wire::to_bytes(&wire::namespace_json(&namespace)),
                ),
                None => self.failure(head, answer::not_found("namespaces", name)),
            },
            Target::Collection {
                resource: Resource::Pods,
                namespace,
            } => self.pod_list(head, namespace.as_deref(), query),
            Target::Collection {
                resource: Resource::ResourceQuotas,
                namespace,
            } => {
                let (quotas, revision) = self.store.quotas(namespace.as_deref());
                let items = quotas.iter().map(|quota| wire::quota_json(quota)).collect();
                self.json(
                    head,
                    StatusCode::OK,
                    wire::list_json("ResourceQuotaList", items, revision),
                )
            }
            Target::Object {
                subresource: Some(subresource),
                ..
            } if subresource == "log" => self.log(head, target, false),
            Target::Object {
                resource,
                namespace,
                name,
                ..
            } => self.one(head, *resource, namespace, name),
            // `others` answers requests for those.
            Target::Extra(_) | Target::Events | Target::Other(_) | Target::Unknown => {
                self.failure(head, answer::no_such_path())
            }
        }
    }

    /// Answers in JSON whatever the request accepts, for objects that the model cannot encode as
    /// protobuf.
    pub(super) fn json(&self, head: &Parts, code: StatusCode, body: Bytes) -> Answer {
        answer::headed(
            head,
            &self.dice,
            code,
            Encoding::Json.content_type(),
            Body::full(body),
        )
    }

    fn pod_list(&self, head: &Parts, namespace: Option<&str>, query: &Query) -> Answer {
        let (pods, revision) = self.store.pods(namespace);
        let selected = pods
            .iter()
            .filter(|pod| query.selects(pod))
            .map(|pod| &**pod);
        self.object(head, StatusCode::OK, |encoding| match encoding {
            Encoding::Protobuf => wire::pod_list_protobuf(selected, revision),
            Encoding::Json | Encoding::Yaml => wire::pod_list_json(selected, revision),
        })
    }

    fn one(&self, head: &Parts, resource: Resource, namespace: &str, name: &str) -> Answer {
        let answer = match resource {
            Resource::Pods => self
                .store
                .pod(namespace, name)
                .map(|pod| self.pod(head, StatusCode::OK, &pod)),
            Resource::ResourceQuotas => {
                let quota = self.store.quota(namespace, name);
                quota.map(|quota| {
                    self.json(
                        head,
                        StatusCode::OK,
                        wire::to_bytes(&wire::quota_json(&quota)),
                    )
                })
            }
        };
        answer.unwrap_or_else(|| self.failure(head, answer::not_found(resource.plural(), name)))
    }
}
