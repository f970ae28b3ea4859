//! What a create is for, without its borrows from the request, which moves on.

use crate::route::CreateTarget;

/// See the module.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) namespace: String,
    pub(super) resource: String,
}

impl From<&CreateTarget<'_>> for Target {
    fn from(target: &CreateTarget<'_>) -> Self {
        Self { namespace: target.namespace.to_owned(), resource: target.resource.to_owned() }
    }
}
