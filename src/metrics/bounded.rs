//! Namespaces and resources as values of a label. They come from URLs, so their number is bounded.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

/// The label that all further values share. No namespace and no resource has this name, since their
/// names have no underscore.
pub(super) const OTHER: &str = "_other";

/// The values that have their own label: the first ones that were seen, until the process ends.
#[derive(Debug)]
pub(super) struct BoundedLabels {
    seen: RwLock<HashSet<Box<str>>>,
    max: usize,
    is_valid: fn(&str) -> bool,
}

impl BoundedLabels {
    /// Labels for at most `max` namespaces.
    pub(super) fn of_namespaces(max: usize) -> Self {
        Self {
            seen: RwLock::default(),
            max,
            is_valid: is_dns_label,
        }
    }

    /// Labels for at most `max` resources, like `pods` and `jobs.batch`.
    pub(super) fn of_resources(max: usize) -> Self {
        Self {
            is_valid: |resource| resource.len() <= 253 && resource.split('.').all(is_dns_label),
            ..Self::of_namespaces(max)
        }
    }

    /// The label of `value`. A new value gets its own label if there is room. Only that allocates.
    pub(super) fn admit<'a>(&self, value: &'a str) -> &'a str {
        let label = self.label(value);
        if label != OTHER || !(self.is_valid)(value) {
            return label;
        }
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= self.max && !seen.contains(value) {
            return OTHER;
        }
        seen.insert(value.into());
        value
    }

    /// The label of `value`. A new value does not get its own label.
    pub(super) fn label<'a>(&self, value: &'a str) -> &'a str {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(value) { value } else { OTHER }
    }
}

/// Whether the apiserver would accept this name for a namespace.
/// <https://github.com/kubernetes/apimachinery/blob/v0.34.0/pkg/util/validation/validation.go#L193>
fn is_dns_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
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
    fn values_beyond_the_bound_share_one_label() {
        let namespaces = BoundedLabels::of_namespaces(2);
        assert_eq!(namespaces.admit("a"), "a");
        assert_eq!(namespaces.admit("b"), "b");
        assert_eq!(namespaces.admit("c"), OTHER);
        assert_eq!(namespaces.admit("a"), "a");
        assert_eq!(namespaces.label("b"), "b");
        assert_eq!(namespaces.label("c"), OTHER);
    }

    #[test]
    fn an_invalid_name_gets_no_label() {
        let namespaces = BoundedLabels::of_namespaces(1);
        let resources = BoundedLabels::of_resources(1);
        every(
            [
                "",
                "_other",
                "A",
                "a/b",
                "a\"b",
                "-a",
                "a-",
                &"x".repeat(64),
            ],
            |name| {
                assert_eq!(namespaces.admit(name), OTHER, "{name}");
                assert_eq!(resources.admit(name), OTHER, "{name}");
            },
        );
        every(["a.", ".a", "a..b", &"a.".repeat(127)], |name| {
            assert_eq!(resources.admit(name), OTHER, "{name}");
        });
        assert_eq!(namespaces.admit("a.b"), OTHER);
        assert_eq!(namespaces.admit("argo-1"), "argo-1");
        assert_eq!(resources.admit("jobs.batch"), "jobs.batch");
    }
}
