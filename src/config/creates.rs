//! The section `creates`.

use super::Held;
use super::declare::settings;
use super::kind::{SectionList, api_group, api_name, boolean, bytes, whole};

settings! {
    /// Which requests count as creates, and how much memory they may use.
    #[derive(Eq)]
    pub struct CreatesConfig {
        /// The resources whose creates the proxy replays.
        ///
        /// The proxy forwards creates of all other resources like any other request.
        resources: Vec<Resource> = vec![Resource {
            resource: "pods".into(),
            ..Resource::default()
        }], SectionList;
        /// Whether a server-side apply `PATCH` of these resources counts as a create too.
        server_side_apply: bool = false, boolean();
        /// The largest body that the proxy buffers for a replay.
        ///
        /// The proxy streams a larger one to kube-apiserver and never replays it. kube-apiserver
        /// itself refuses bodies above 3Mi.
        max_body: u64 = 3 << 20, bytes(1 << 10, 64 << 20);
        /// How much memory the bodies of all creates may use together. At least `maxBody`.
        ///
        /// When it is used up, the proxy streams creates to kube-apiserver and does not replay
        /// them.
        max_buffered: u64 = 256 << 20, bytes(1 << 10, 1 << 40);
        /// How many creates may wait for their next attempt at the same time.
        ///
        /// Above the limit, the client gets the answer of kube-apiserver.
        max_held: Held = Held::new(10_000), whole();
    }
}

settings! {
    /// One resource of the Kubernetes API.
    #[derive(Eq, Hash)]
    pub struct Resource {
        /// The API group. Empty for the core group.
        group: String = String::new(), api_group();
        /// The API version.
        version: String = "v1".into(), api_name("an API version like v1");
        /// The plural name of the resource, like `pods`.
        resource: String = String::new(),
            api_name("a plural name in lower case without a subresource, like pods"), required true;
    }
}
