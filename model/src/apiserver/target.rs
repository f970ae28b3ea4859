//! Parses the path of a request into what it refers to. This module does no IO.

/// What the path of a request refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A path outside the Kubernetes API, such as `/echo`.
    Extra(String),
    /// A discovery document or a health check.
    Discovery(String),
    /// The collection `namespaces`, or one namespace.
    Namespaces(Option<String>),
    /// A collection. Without a namespace it covers all namespaces.
    Collection {
        resource: Resource,
        namespace: Option<String>,
    },
    /// One object or one of its subresources.
    Object {
        resource: Resource,
        namespace: String,
        name: String,
        subresource: Option<String>,
    },
    /// The collection `events` of events.k8s.io in one namespace. The model only accepts creates
    /// there.
    Events,
    /// Objects of any other namespaced resource.
    Other(Other),
    /// A path that the model does not serve.
    Unknown,
}

/// The collection of a resource in a namespace, or one of its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Other {
    /// As quotas write it: `services`, `jobs.batch`.
    resource: String,
    namespace: String,
    name: Option<String>,
}

impl Other {
    fn of(group: &str, resource: &str, namespace: &str, name: Option<&str>) -> Target {
        let dot = if group.is_empty() { "" } else { "." };
        Target::Other(Other {
            resource: format!("{resource}{dot}{group}"),
            namespace: namespace.to_owned(),
            name: name.map(str::to_owned),
        })
    }

    /// The namespace, the resource and the name.
    pub(super) fn parts(&self) -> (&str, &str, Option<&str>) {
        (&self.namespace, &self.resource, self.name.as_deref())
    }
}

/// The namespaced resources that the model serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Pods,
    ResourceQuotas,
}

impl Resource {
    fn of(plural: &str) -> Option<Resource> {
        match plural {
            "pods" => Some(Resource::Pods),
            "resourcequotas" => Some(Resource::ResourceQuotas),
            _ => None,
        }
    }

    /// The plural name, as in paths and errors.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Resource::Pods => "pods",
            Resource::ResourceQuotas => "resourcequotas",
        }
    }
}

impl Target {
    /// Parses a path.
    pub(super) fn of(path: &str) -> Target {
        let segments: Vec<&str> = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect();
        let Some(rest) = segments.strip_prefix(&["api", "v1"]) else {
            return match *segments {
                ["echo" | "trailers", ..] => Target::Extra(path.to_owned()),
                ["apis", "events.k8s.io", "v1", "namespaces", _, "events"] => Target::Events,
                ["apis", group, _, "namespaces", namespace, resource] => {
                    Other::of(group, resource, namespace, None)
                }
                ["apis", group, _, "namespaces", namespace, resource, name] => {
                    Other::of(group, resource, namespace, Some(name))
                }
                [
                    "version" | "healthz" | "livez" | "readyz" | "api" | "apis",
                    ..,
                ] => Target::Discovery(path.to_owned()),
                _ => Target::Unknown,
            };
        };
        match *rest {
            [] => Target::Discovery(path.to_owned()),
            ["namespaces"] => Target::Namespaces(None),
            ["namespaces", name] => Target::Namespaces(Some(name.to_owned())),
            [resource] => Target::collection(resource, None),
            ["namespaces", namespace, resource] => {
                match Target::collection(resource, Some(namespace)) {
                    Target::Unknown => Other::of("", resource, namespace, None),
                    served => served,
                }
            }
            ["namespaces", namespace, resource, name] => {
                match Target::object(resource, namespace, name, None) {
                    Target::Unknown => Other::of("", resource, namespace, Some(name)),
                    served => served,
                }
            }
            ["namespaces", namespace, resource, name, subresource] => {
                Target::object(resource, namespace, name, Some(subresource))
            }
            _ => Target::Unknown,
        }
    }

    /// The subresource, if the path has one.
    pub(super) fn subresource(&self) -> Option<&str> {
        match self {
            Target::Object { subresource, .. } => subresource.as_deref(),
            _ => None,
        }
    }

    /// Whether a request to this target may upgrade its connection.
    pub(super) fn is_upgradable(&self) -> bool {
        matches!(self.subresource(), Some("exec" | "attach" | "portforward"))
    }

    fn collection(resource: &str, namespace: Option<&str>) -> Target {
        let of = |resource| Target::Collection {
            resource,
            namespace: namespace.map(str::to_owned),
        };
        Resource::of(resource).map_or(Target::Unknown, of)
    }

    fn object(resource: &str, namespace: &str, name: &str, subresource: Option<&str>) -> Target {
        let of = |resource| Target::Object {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.map(str::to_owned),
        };
        Resource::of(resource).map_or(Target::Unknown, of)
    }
}
