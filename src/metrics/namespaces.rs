//! Namespaces as values of a label. They come from URLs, so their number is bounded.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

/// The label that all further namespaces share. No namespace has this name, since names have no
/// underscore.
pub(super) const OTHER: &str = "_other";
/// The label for objects without a namespace.
const CLUSTER: &str = "_cluster";

/// The namespaces that have their own label: the first ones that were seen, until the process ends.
#[derive(Debug)]
pub(super) struct NamespaceLabels {
    seen: RwLock<HashSet<Box<str>>>,
    max: usize,
}

impl NamespaceLabels {
    pub(super) fn new(max: usize) -> Self {
        Self {
            seen: RwLock::default(),
            max,
        }
    }

    /// The label of `namespace`. A new namespace gets its own label if there is room. Only that
    /// allocates.
    pub(super) fn admit<'a>(&self, namespace: &'a str) -> &'a str {
        let label = self.label(namespace);
        if label != OTHER || !is_dns_label(namespace) {
            return label;
        }
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= self.max && !seen.contains(namespace) {
            return OTHER;
        }
        seen.insert(namespace.into());
        namespace
    }

    /// The label of `namespace`. A new namespace does not get its own label.
    pub(super) fn label<'a>(&self, namespace: &'a str) -> &'a str {
        if namespace.is_empty() {
            return CLUSTER;
        }
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(namespace) {
            namespace
        } else {
            OTHER
        }
    }
}

/// Whether the apiserver would accept this name for a namespace.
/// <https://github.com/kubernetes/apimachinery/blob/v0.34.0/pkg/util/validation/validation.go#L193>
fn is_dns_label(name: &str) -> bool {
    name.len() <= 63
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    #[test]
    fn namespaces_beyond_the_bound_share_one_label() {
        let namespaces = NamespaceLabels::new(2);
        assert_eq!(namespaces.admit("a"), "a");
        assert_eq!(namespaces.admit("b"), "b");
        assert_eq!(namespaces.admit("c"), OTHER);
        assert_eq!(namespaces.admit("a"), "a");
        assert_eq!(namespaces.label("b"), "b");
        assert_eq!(namespaces.label("c"), OTHER);
    }

    #[test]
    fn an_invalid_namespace_gets_no_label() {
        let namespaces = NamespaceLabels::new(1);
        every(
            [
                "_other",
                "A",
                "a/b",
                "a\"b",
                "-a",
                "a-",
                "a.b",
                &"x".repeat(64),
            ],
            |name| {
                assert_eq!(namespaces.admit(name), OTHER, "{name}");
            },
        );
        assert_eq!(namespaces.admit(""), CLUSTER);
        assert_eq!(namespaces.admit("argo-1"), "argo-1");
    }
}
