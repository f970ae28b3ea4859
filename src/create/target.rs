//! What a create is for.

use crate::route::CreateTarget;

/// See the module.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) namespace: String,
    pub(super) resource: String,
}

impl From<CreateTarget> for Target {
    fn from(target: CreateTarget) -> Self {
        Self {
            namespace: target.namespace,
            resource: target.resource,
        }
    }
}
