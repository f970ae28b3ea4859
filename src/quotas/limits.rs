//! Reads the limits and the usage of a ResourceQuota from a list or a watch. Pure.

use std::collections::HashMap;

use serde::Deserialize;

use crate::quantity::Quantity;

/// What quota admission compares: `status.hard` and `status.used`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) hard: HashMap<Box<str>, Quantity>,
    pub(super) used: HashMap<Box<str>, Quantity>,
    /// Whether its controller has counted everything that `spec.hard` names. Until then, quota
    /// admission refuses every create that the quota counts.
    pub(super) is_counted: bool,
}

/// A quota by its name.
pub(super) type Named = (Box<str>, Limits);

/// One change of the quotas of a namespace.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// A quota is new or has changed.
    Is(Box<str>, Limits),
    /// A quota is gone.
    Gone(Box<str>),
    /// Nothing has changed up to this version.
    Nothing,
    /// The watch cannot continue from any version.
    ListAgain,
}

#[derive(Deserialize)]
struct List {
    metadata: Metadata,
    #[serde(default)]
    items: Option<Vec<Quota>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Box<str>,
    resource_version: String,
}

#[derive(Deserialize)]
struct Quota {
    metadata: Metadata,
    #[serde(default)]
    spec: Amounts,
    #[serde(default)]
    status: Amounts,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Amounts {
    hard: Option<HashMap<Box<str>, serde_json::Value>>,
    used: Option<HashMap<Box<str>, serde_json::Value>>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: Box<str>,
    object: serde_json::Value,
}

/// The quotas of a list, and its version.
pub(super) fn list(body: &[u8]) -> Result<(Vec<Named>, String), serde_json::Error> {
    let list: List = serde_json::from_slice(body)?;
    let quotas = list.items.unwrap_or_default();
    let quotas = quotas.into_iter().map(Quota::read).collect();
    Ok((quotas, list.metadata.resource_version))
}

/// The content of one line of a watch, and the version to continue from.
pub(super) fn update(line: &[u8]) -> Result<(Update, String), serde_json::Error> {
    let event: Event = serde_json::from_slice(line)?;
    if !matches!(&*event.kind, "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK") {
        // Mostly 410: the version is too old to continue from.
        return Ok((Update::ListAgain, String::new()));
    }
    let quota: Quota = serde_json::from_value(event.object)?;
    let version = quota.metadata.resource_version.clone();
    let (name, limits) = quota.read();
    let update = match &*event.kind {
        "BOOKMARK" => Update::Nothing,
        "DELETED" => Update::Gone(name),
        _ => Update::Is(name, limits),
    };
    Ok((update, version))
}

impl Quota {
    fn read(self) -> Named {
        let written = self.status.used.clone();
        let [hard, used] = [self.status.hard, self.status.used].map(amounts);
        // The controller writes all limits, and the use of those resources that it knows. What it does
        // not know, such as a resource without a definition, stands in no refusal.
        let is_readable = |name| {
            let written = written.as_ref();
            written.is_some_and(|all| !all.contains_key(name) || used.contains_key(name))
        };
        let limited = self.spec.hard.unwrap_or_default();
        let is_counted = limited
            .keys()
            .all(|name| hard.contains_key(name) && is_readable(name));
        let limits = Limits {
            hard,
            used,
            is_counted,
        };
        (self.metadata.name, limits)
    }
}

/// An amount that cannot be read is left out: then the quota does not count as counted, and nothing
/// is woken for it.
fn amounts(given: Option<HashMap<Box<str>, serde_json::Value>>) -> HashMap<Box<str>, Quantity> {
    let read = |(name, value): (Box<str>, serde_json::Value)| {
        let amount = match &value {
            serde_json::Value::String(text) => text.trim().parse(),
            // The API accepts a number too, and writes a string.
            other => other.to_string().parse(),
        };
        Some((name, amount.ok()?))
    };
    given
        .unwrap_or_default()
        .into_iter()
        .filter_map(read)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    /// As kube-apiserver 1.34 writes it.
    const QUOTA: &str = r#"{"kind":"ResourceQuota","apiVersion":"v1","metadata":{"name":"compute","namespace":"team","uid":"3e0f","resourceVersion":"231"},
        "spec":{"hard":{"pods":"50","requests.memory":"1Gi"}},"status":{"hard":{"pods":"50","requests.memory":"1Gi"},"used":{"pods":"3","requests.memory":"1536Ki"}}}"#;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    fn limits(object: &str) -> Limits {
        let line = format!(r#"{{"type":"MODIFIED","object":{object}}}"#);
        match update(line.as_bytes()).unwrap().0 {
            Update::Is(_, limits) => limits,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_the_status_of_a_quota() {
        let read = limits(QUOTA);
        assert_eq!(read.hard["requests.memory"], quantity("1Gi"));
        assert_eq!(read.used["requests.memory"], quantity("1536Ki"));
        assert!(read.is_counted);
        let list = format!(r#"{{"metadata":{{"resourceVersion":"240"}},"items":[{QUOTA}]}}"#);
        let (quotas, version) = super::list(list.as_bytes()).unwrap();
        assert_eq!(
            (quotas, version),
            (vec![("compute".into(), read)], "240".into())
        );
        let none = br#"{"metadata":{"resourceVersion":"1"},"items":null}"#;
        assert_eq!(super::list(none).unwrap(), (Vec::new(), "1".into()));
    }

    #[test]
    fn a_quota_without_a_count_for_each_limit_is_not_counted() {
        every(
            [
                r#"{"metadata":{"name":"q"},"spec":{"hard":{"pods":"1"}},"status":{}}"#,
                r#"{"metadata":{"name":"q"},"spec":{"hard":{"pods":"1"}}}"#,
                r#"{"metadata":{"name":"q"},"spec":{"hard":{"pods":"1"}},"status":{"hard":{"pods":"1"}}}"#,
                r#"{"metadata":{"name":"q"},"spec":{"hard":{"pods":"1","cpu":"1"}},"status":{"hard":{"pods":"1"},"used":{"pods":"1"}}}"#,
                r#"{"metadata":{"name":"q"},"spec":{"hard":{"pods":"1"}},"status":{"hard":{"pods":"1"},"used":{"pods":"many"}}}"#,
                r#"{"metadata":{"name":"q"},"spec":{"hard":{"pods":"1"}},"status":{"hard":{"pods":"1"},"used":{"pods":[1]}}}"#,
            ],
            |object| assert!(!limits(object).is_counted),
        );
        let unknown = r#"{"metadata":{"name":"q"},"spec":{"hard":{"pods":"1","nvidia.com/gpu":"1"}},"status":{"hard":{"pods":"1","nvidia.com/gpu":"1"},"used":{"pods":"0"}}}"#;
        assert!(limits(unknown).is_counted);
        let numbers = r#"{"metadata":{"name":"q"},"spec":{"hard":{"pods":1}},"status":{"hard":{"pods":1},"used":{"pods":0.5}}}"#;
        assert!(limits(numbers).is_counted);
        assert_eq!(limits(numbers).used["pods"], quantity("500m"));
    }

    #[test]
    fn reads_every_kind_of_event() {
        let of = |kind: &str, object: &str| {
            let line = format!(r#"{{"type":"{kind}","object":{object}}}"#);
            update(line.as_bytes())
        };
        let bookmark =
            r#"{"kind":"ResourceQuota","metadata":{"resourceVersion":"9"},"spec":{},"status":{}}"#;
        assert_eq!(
            of("BOOKMARK", bookmark).unwrap(),
            (Update::Nothing, "9".into())
        );
        assert_eq!(
            of("DELETED", QUOTA).unwrap(),
            (Update::Gone("compute".into()), "231".into())
        );
        let expired = r#"{"kind":"Status","code":410,"reason":"Expired"}"#;
        assert_eq!(of("ERROR", expired).unwrap().0, Update::ListAgain);
        every(["5", "null", r#"{"metadata":5}"#, "{"], |object| {
            of("MODIFIED", object).unwrap_err();
        });
    }
}
