//! What is valid in a configuration and has no effect: a resource that can never match a create that
//! waits (a built-in plural in the wrong group, a singular name, a resource without a namespace), and
//! a watch of quotas that nobody waits for.
//!
//! Anybody may define resources, so these are warnings and not mistakes. Only the groups in the table
//! are known to have nothing else.

use super::mistake::{Mistake, Problem};
use super::{Config, Resource, never_waits};

/// The built-in resources, by group: first those with a namespace, then those without.
const BUILT_IN: &[(&str, &[&str], &[&str])] = &[
    (
        "",
        &[
            "bindings",
            "configmaps",
            "endpoints",
            "events",
            "limitranges",
            "persistentvolumeclaims",
            "pods",
            "podtemplates",
            "replicationcontrollers",
            "resourcequotas",
            "secrets",
            "serviceaccounts",
            "services",
        ],
        &[
            "componentstatuses",
            "namespaces",
            "nodes",
            "persistentvolumes",
        ],
    ),
    (
        "apps",
        &[
            "controllerrevisions",
            "daemonsets",
            "deployments",
            "replicasets",
            "statefulsets",
        ],
        &[],
    ),
    (
        "authentication.k8s.io",
        &[],
        &["selfsubjectreviews", "tokenreviews"],
    ),
    (
        "authorization.k8s.io",
        &["localsubjectaccessreviews"],
        &[
            "selfsubjectaccessreviews",
            "selfsubjectrulesreviews",
            "subjectaccessreviews",
        ],
    ),
    ("autoscaling", &["horizontalpodautoscalers"], &[]),
    ("batch", &["cronjobs", "jobs"], &[]),
    ("coordination.k8s.io", &["leases"], &[]),
    ("discovery.k8s.io", &["endpointslices"], &[]),
    (
        "networking.k8s.io",
        &["ingresses", "networkpolicies"],
        &["ingressclasses"],
    ),
    ("policy", &["poddisruptionbudgets"], &[]),
    (
        "rbac.authorization.k8s.io",
        &["rolebindings", "roles"],
        &["clusterrolebindings", "clusterroles"],
    ),
    ("scheduling.k8s.io", &[], &["priorityclasses"]),
    (
        "storage.k8s.io",
        &["csistoragecapacities"],
        &["csidrivers", "csinodes", "storageclasses"],
    ),
];

/// A warning for each of them, without a line.
pub(crate) fn doubts(config: &Config) -> Vec<Mistake> {
    let lists = [
        ("creates.resources", &config.creates.resources),
        ("creates.except", &config.creates.except),
        ("rateLimit.resources", &config.rate_limit.resources),
    ];
    let all = lists.into_iter().flat_map(|(list, resources)| {
        resources
            .iter()
            .enumerate()
            .filter_map(move |(index, resource)| {
                Some(Mistake {
                    line: None,
                    path: format!("{list}[{index}]"),
                    problem: Problem::Doubt(doubt(resource)?),
                })
            })
    });
    let idle = config.replay.full_quotas.watch && !config.replay.exceeded_quota.enabled;
    let idle = idle.then(|| Mistake {
        line: None,
        path: "replay.fullQuotas.watch".into(),
        problem: Problem::Doubt("has no effect: replay.exceededQuota.enabled is false".into()),
    });
    all.chain(idle).collect()
}

/// Why a resource can never match.
fn doubt(listed: &Resource) -> Option<String> {
    let Resource {
        group, resource, ..
    } = listed;
    if matches!(group.as_str(), "core" | "v1") {
        return Some(format!(
            "never matches: the group of the core resources is '', not {group}"
        ));
    }
    if let Some((plural, group)) = resource.split_once('.') {
        return Some(format!(
            "never matches: write {{group: {group}, resource: {plural}}}"
        ));
    }
    let any = group == "*";
    if !any && BUILT_IN.iter().all(|(known, ..)| known != group) {
        return None;
    }
    let (home, plural, has_namespace) = built_in()
        .filter(|(_, plural, _)| *plural == resource || is_singular(resource, plural))
        .max_by_key(|(home, ..)| home == group)?;
    let matches = if any {
        "matches nothing of Kubernetes"
    } else {
        "never matches"
    };
    if never_waits(home, plural) {
        Some(format!("{matches}: creates of {plural} never wait"))
    } else if !has_namespace {
        Some(format!(
            "{matches}: {plural} have no namespace, so no quota counts them"
        ))
    } else if plural != resource || !(any || home == group) {
        let home = match home {
            "" => String::new(),
            home => format!("group: {home}, "),
        };
        Some(format!("{matches}: write {{{home}resource: {plural}}}"))
    } else {
        None
    }
}

/// Each built-in resource: its group, its plural, and whether it has a namespace.
fn built_in() -> impl Iterator<Item = (&'static str, &'static str, bool)> {
    BUILT_IN.iter().flat_map(|(group, with, without)| {
        let with = with.iter().map(|plural| (*group, *plural, true));
        with.chain(without.iter().map(|plural| (*group, *plural, false)))
    })
}

fn is_singular(name: &str, plural: &str) -> bool {
    let stem = plural.strip_prefix(name);
    let y = name
        .strip_suffix('y')
        .and_then(|stem| plural.strip_prefix(stem));
    matches!(stem, Some("s" | "es")) || y == Some("ies")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    #[test]
    fn a_watch_of_quotas_that_nobody_waits_for_is_doubtful() {
        let mut config = Config::default();
        assert!(doubts(&config).is_empty());
        config.replay.full_quotas.watch = true;
        let doubt = doubts(&config).remove(0);
        assert_eq!(
            doubt.to_string(),
            "replay.fullQuotas.watch: has no effect: replay.exceededQuota.enabled is false"
        );
        config.replay.exceeded_quota.enabled = true;
        assert!(doubts(&config).is_empty());
    }

    #[test]
    fn a_resource_that_can_never_match_is_doubtful() {
        every(
            [
                ("", "pods", None),
                ("*", "*", None),
                ("", "*", None),
                ("apps", "deployments", None),
                ("*", "deployments", None),
                ("batch.volcano.sh", "jobs", None),
                ("serving.knative.dev", "services", None),
                ("example.org", "pod", None),
                ("", "widgets", None),
                (
                    "",
                    "deployments",
                    Some("never matches: write {group: apps, resource: deployments}"),
                ),
                (
                    "apps",
                    "pods",
                    Some("never matches: write {resource: pods}"),
                ),
                (
                    "",
                    "deployments.apps",
                    Some("never matches: write {group: apps, resource: deployments}"),
                ),
                (
                    "core",
                    "pods",
                    Some("never matches: the group of the core resources is '', not core"),
                ),
                (
                    "v1",
                    "pods",
                    Some("never matches: the group of the core resources is '', not v1"),
                ),
                ("", "pod", Some("never matches: write {resource: pods}")),
                (
                    "",
                    "job",
                    Some("never matches: write {group: batch, resource: jobs}"),
                ),
                (
                    "*",
                    "ingress",
                    Some(
                        "matches nothing of Kubernetes: write {group: networking.k8s.io, resource: ingresses}",
                    ),
                ),
                (
                    "networking.k8s.io",
                    "networkpolicy",
                    Some(
                        "never matches: write {group: networking.k8s.io, resource: networkpolicies}",
                    ),
                ),
                (
                    "",
                    "nodes",
                    Some("never matches: nodes have no namespace, so no quota counts them"),
                ),
                (
                    "*",
                    "leases",
                    Some("matches nothing of Kubernetes: creates of leases never wait"),
                ),
                (
                    "*",
                    "tokenreviews",
                    Some("matches nothing of Kubernetes: creates of tokenreviews never wait"),
                ),
            ],
            |(group, resource, expected)| {
                assert_eq!(
                    doubt(&Resource::named(group, resource)).as_deref(),
                    expected
                );
            },
        );
    }
}
