//! What a path names. Pure.

/// The target of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A path outside the API, `/echo` say.
    Extra(String),
    /// A discovery document or a health check.
    Discovery(String),
    /// `namespaces`, or one of them.
    Namespaces(Option<String>),
    /// A collection; without a namespace over all of them.
    Collection {
        resource: Resource,
        namespace: Option<String>,
    },
    /// One object, or a subresource of it.
    Object {
        resource: Resource,
        namespace: String,
        name: String,
        subresource: Option<String>,
    },
    /// `events` of events.k8s.io in a namespace, which only takes them.
    Events,
    /// Nothing that the model has.
    Unknown,
}

/// The namespaced resources of the model.
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

    /// The name in paths and errors.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Resource::Pods => "pods",
            Resource::ResourceQuotas => "resourcequotas",
        }
    }
}

impl Target {
    /// Reads a path.
    pub(super) fn of(path: &str) -> Target {
        let segments: Vec<&str> = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect();
        let Some(rest) = segments.strip_prefix(&["api", "v1"]) else {
            return match *segments {
                ["echo" | "trailers", ..] => Target::Extra(path.to_owned()),
                ["apis", "events.k8s.io", "v1", "namespaces", _, "events"] => Target::Events,
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
            ["namespaces", namespace, resource] => Target::collection(resource, Some(namespace)),
            ["namespaces", namespace, resource, name] => {
                Target::object(resource, namespace, name, None)
            }
            ["namespaces", namespace, resource, name, subresource] => {
                Target::object(resource, namespace, name, Some(subresource))
            }
            _ => Target::Unknown,
        }
    }

    /// The subresource, if one is named.
    pub(super) fn subresource(&self) -> Option<&str> {
        match self {
            Target::Object { subresource, .. } => subresource.as_deref(),
            _ => None,
        }
    }

    /// Whether the connection may be taken over.
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
