//! The section `creates`.

use super::Held;
use super::declare::settings;
use super::kind::{
    SectionList, SectionListOrNone, api_group, api_name_or_any, boolean, bytes, whole,
};

/// `*`: any group, version or resource.
const ANY: &str = "*";

/// The resources, by group and plural, whose creates never wait in the proxy, whatever the
/// configuration lists.
///
/// No quota counts what stands here, so a create of it cannot meet the conflict:
///
/// - Quota admission skips bindings and reviews, which are not stored, and events:
///   <https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/quota/v1/install/registry.go>
///   (`ignoredResources`). It also skips subresources, dry runs and everything without a namespace,
///   which `route` leaves out as well.
/// - The groups of authentication and authorization have nothing but reviews, and a caller waits
///   for each of them.
///
/// The others must not wait:
///
/// - A lease says that somebody is alive. One that comes late is worse than an error.
/// - A conflict that names a ResourceQuota proves a conflict of quota admission only if the object
///   of the request is not a ResourceQuota itself.
///
/// Everything else may be counted by a quota `count/RESOURCE.GROUP`, also what controllers of
/// Kubernetes write, such as EndpointSlices and ControllerRevisions.
const NEVER: &[(&str, &str)] = &[
    ("", "bindings"),
    ("", "events"),
    ("", "resourcequotas"),
    ("authentication.k8s.io", ANY),
    ("authorization.k8s.io", ANY),
    ("authorization.openshift.io", "localresourceaccessreviews"),
    ("authorization.openshift.io", "localsubjectaccessreviews"),
    ("authorization.openshift.io", "selfsubjectrulesreviews"),
    ("authorization.openshift.io", "subjectrulesreviews"),
    ("coordination.k8s.io", "leases"),
    ("events.k8s.io", "events"),
    // All that is created in a namespace of this group are reviews.
    ("security.openshift.io", ANY),
];

settings! {
    /// Which requests count as creates, and how much memory they may use.
    #[derive(Eq)]
    pub struct CreatesConfig {
        /// The resources whose creates the proxy replays.
        ///
        /// The default is all of them, because a quota can count any resource. Only objects with a
        /// namespace count, because only these have a quota. Events, leases, bindings,
        /// ResourceQuotas and all of `authentication.k8s.io` and `authorization.k8s.io` never wait
        /// and cannot be listed: `'*'` leaves them out. The proxy forwards creates of all other
        /// resources like any other request. A resource that is listed twice counts once.
        resources: Vec<Resource> = vec![Resource::any()], SectionList;
        /// The resources that `resources` matches but that the proxy does not replay, in the same
        /// form. Exceptions win over `resources`. One that matches nothing has no effect.
        ///
        /// That no object is created twice is proved for objects that kube-apiserver stores. An
        /// aggregated API that does several steps in one create belongs here.
        except: Vec<Resource> = Vec::new(), SectionListOrNone;
        /// Whether a server-side apply `PATCH` of these resources counts as a create too.
        ///
        /// The proxy cannot know whether it creates the object or changes it. Both may meet the
        /// conflict, and in both cases nothing was stored.
        server_side_apply: bool = true, boolean();
        /// The largest body that the proxy buffers for a replay.
        ///
        /// The proxy streams a larger one to kube-apiserver and never replays it. kube-apiserver
        /// itself refuses bodies above 3Mi.
        max_body: u64 = 3 << 20, bytes(1 << 10, 64 << 20);
        /// How much memory the bodies and large answers of all creates may use together. At least
        /// `maxBody`.
        ///
        /// When it is used up, the proxy streams creates to kube-apiserver and does not replay
        /// them.
        max_buffered: u64 = 256 << 20, bytes(1 << 10, 1 << 40);
        /// How many creates may wait for their next attempt at the same time.
        ///
        /// Above the limit, the client gets the answer of kube-apiserver. Creates that wait for a
        /// full quota have half of the places, and half of `maxBuffered`, at most, because they wait
        /// for long.
        max_held: Held = Held::new(10_000), whole();
    }
}

settings! {
    /// Resources of the Kubernetes API, as in the rules of an admission webhook.
    #[derive(Eq, Hash)]
    pub struct Resource {
        /// The API group. Empty for the core group, `'*'` for every group.
        group: String = String::new(), api_group();
        /// The API version. `'*'` for every version; a quota counts all versions together.
        version: String = ANY.into(), api_name_or_any("an API version like v1, or '*'");
        /// The plural name of the resource, like `pods`. `'*'` for every resource of the group.
        resource: String = String::new(),
            api_name_or_any("a plural name in lower case without a subresource, like pods, or '*'"),
            required true;
    }
}

impl Resource {
    /// Every resource of every group.
    #[must_use]
    pub fn any() -> Self {
        Self {
            group: ANY.into(),
            resource: ANY.into(),
            ..Self::default()
        }
    }

    /// The resource with this plural name, in any version.
    #[must_use]
    pub fn named(group: &str, resource: &str) -> Self {
        Self {
            group: group.into(),
            resource: resource.into(),
            ..Self::default()
        }
    }

    /// Whether this matches the resource. `*` matches everything.
    #[must_use]
    pub fn matches(&self, group: &str, version: &str, resource: &str) -> bool {
        let one = |pattern: &str, text: &str| pattern == text || pattern == ANY;
        one(&self.resource, resource) && one(&self.group, group) && one(&self.version, version)
    }

    /// Whether this matches everything that `other` matches.
    fn covers(&self, other: &Self) -> bool {
        self.matches(&other.group, &other.version, &other.resource)
    }
}

/// Whether a create of this resource never waits, whatever the configuration lists.
#[must_use]
pub fn never_waits(group: &str, resource: &str) -> bool {
    NEVER
        .iter()
        .any(|(its, plural)| *its == group && (*plural == resource || *plural == ANY))
}

impl CreatesConfig {
    /// The items of `resources` that never wait.
    pub(super) fn listed_though_they_never_wait(&self) -> impl Iterator<Item = usize> {
        let listed = self.resources.iter().enumerate();
        listed
            .filter(|(_, listed)| never_waits(&listed.group, &listed.resource))
            .map(|(index, _)| index)
    }

    /// The items of `except` that take out all of an item of `resources`.
    pub(super) fn exceptions_that_take_out_an_item(&self) -> impl Iterator<Item = usize> {
        let exceptions = self.except.iter().enumerate();
        exceptions
            .filter(|(_, each)| self.resources.iter().any(|listed| each.covers(listed)))
            .map(|(index, _)| index)
    }
}
