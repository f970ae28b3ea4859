//! Reads what a create asked for, and what was free, from the 403 of a full quota.
//!
//! ```text
//! pods "a" is forbidden: exceeded quota: compute, requested: pods=1,requests.cpu=2, used: pods=50,requests.cpu=39, limited: pods=50,requests.cpu=40
//! ```
//!
//! Quota admission names one quota, the first that refuses, and only those of its resources that
//! are short. OpenShift's ClusterResourceQuota uses the same code and the same words.
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go>

use std::fmt;

use super::classify::cause_of_forbidden;
use crate::quantity::Quantity;
use crate::status::Status;

/// The start of the cause in the message.
pub(super) const EXCEEDED: &str = "exceeded quota: ";
/// A quota has a dozen resources. A message with more of them is not read.
const MAX_RESOURCES: usize = 64;
/// The longest name of an object or of a resource, with its prefix.
const MAX_NAME: usize = 512;

/// A quota that refused a create, and the resources that were short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// The name of the quota.
    pub quota: Box<str>,
    /// At least one.
    pub shortages: Vec<Shortage>,
}

/// A resource of a quota, of which less was free than the create asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Its name, as in `requests.cpu` or `count/jobs.batch`.
    pub resource: Box<str>,
    /// What the create asked for, or by how much an apply raises it. Above 0.
    pub asked: Quantity,
    /// What was in use.
    pub used: Quantity,
    /// The limit of the quota.
    pub limit: Quantity,
    /// `asked` and `limit` as the message has them.
    text: [Box<str>; 2],
}

impl Exceeded {
    /// What the Status of a 403 says. None: it is not in this form, or it contradicts itself.
    #[must_use]
    pub fn of(status: &Status) -> Option<Self> {
        let rest = cause_of_forbidden(status)?.strip_prefix(EXCEEDED)?;
        let (quota, rest) = rest.split_once(", requested: ")?;
        let (requested, rest) = rest.split_once(", used: ")?;
        let (used, limited) = rest.split_once(", limited: ")?;
        if quota.is_empty() || quota.len() > MAX_NAME || !quota.bytes().all(is_of_a_name) {
            return None;
        }
        let [requested, used, limited] =
            [requested, used, limited].map(|list| list.split(',').collect::<Vec<_>>());
        if requested.len() > MAX_RESOURCES
            || requested.len() != used.len()
            || used.len() != limited.len()
        {
            return None;
        }
        let shortages = requested.iter().zip(used).zip(limited);
        Some(Self {
            quota: quota.into(),
            shortages: shortages
                .map(|((asked, used), limit)| Shortage::of(asked, used, limit))
                .collect::<Option<_>>()?,
        })
    }

    /// Whether the quota could not hold the create even if nothing else used it.
    #[must_use]
    pub fn can_never_fit(&self) -> bool {
        self.shortages.iter().any(|each| each.asked > each.limit)
    }
}

impl Shortage {
    /// Reads three items of the lists, like `requests.cpu=2`. All must name the same resource.
    fn of(asked: &str, used: &str, limit: &str) -> Option<Self> {
        let (resource, asked_text) = asked.split_once('=')?;
        let of_the_same = |item: &'_ str| -> Option<Quantity> {
            item.strip_prefix(resource)?.strip_prefix('=')?.parse().ok()
        };
        let limit_text = limit.split_once('=')?.1;
        let shortage = Self {
            resource: resource.into(),
            asked: asked_text.parse().ok()?,
            used: of_the_same(used)?,
            limit: of_the_same(limit)?,
            text: [asked_text.into(), limit_text.into()],
        };
        let is_name = !resource.is_empty()
            && resource.len() <= MAX_NAME
            && resource
                .bytes()
                .all(|byte| is_of_a_name(byte) || byte == b'/');
        let is_short = shortage.used.plus(shortage.asked)? > shortage.limit;
        (is_name && is_short && shortage.asked.is_positive()).then_some(shortage)
    }
}

/// Names of quotas and resources have no comma, no space and no equals sign.
fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':')
}

/// For operators, as in `compute: requests.cpu: asked 2, free 500m of 40`.
impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.quota)?;
        for (index, each) in self.shortages.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            let [asked, limit] = &each.text;
            let free = each.limit.minus(each.used).unwrap_or_default();
            write!(
                f,
                "{separator}{}: asked {asked}, free {free} of {limit}",
                each.resource
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;
    use crate::status::Details;

    fn read(cause: &str) -> Option<String> {
        read_of("a", &format!("pods \"a\" is forbidden: {cause}")).map(|read| read.to_string())
    }

    fn read_of(name: &str, message: &str) -> Option<Exceeded> {
        Exceeded::of(&Status {
            code: 403,
            reason: "Forbidden".into(),
            message: message.into(),
            details: Details {
                name: name.into(),
                kind: "pods".into(),
                ..Details::default()
            },
        })
    }

    #[test]
    fn reads_what_is_short() {
        every(
            [
                (
                    "exceeded quota: full, requested: pods=1, used: pods=0, limited: pods=0",
                    "full: pods: asked 1, free 0 of 0",
                ),
                (
                    "exceeded quota: compute.team-1, requested: limits.memory=512Mi,requests.cpu=2, used: limits.memory=1Gi,requests.cpu=39500m, limited: limits.memory=1Gi,requests.cpu=40",
                    "compute.team-1: limits.memory: asked 512Mi, free 0 of 1Gi; requests.cpu: asked 2, free 500m of 40",
                ),
                (
                    "exceeded quota: q, requested: count/jobs.batch=1,gold.storageclass.storage.k8s.io/requests.storage=5Gi, used: count/jobs.batch=9,gold.storageclass.storage.k8s.io/requests.storage=7Gi, limited: count/jobs.batch=9,gold.storageclass.storage.k8s.io/requests.storage=10Gi",
                    "q: count/jobs.batch: asked 1, free 0 of 9; gold.storageclass.storage.k8s.io/requests.storage: asked 5Gi, free 3Gi of 10Gi",
                ),
                // An admin has lowered the limit below what is in use.
                (
                    "exceeded quota: q, requested: pods=1, used: pods=43, limited: pods=40",
                    "q: pods: asked 1, free -3 of 40",
                ),
                // The units of the three lists differ.
                (
                    "exceeded quota: q, requested: requests.memory=1536Mi, used: requests.memory=1G, limited: requests.memory=2Gi",
                    "q: requests.memory: asked 1536Mi, free 1147483648 of 2Gi",
                ),
            ],
            |(cause, expected)| assert_eq!(read(cause).as_deref(), Some(expected)),
        );
    }

    #[test]
    fn what_is_not_in_this_form_is_not_read() {
        let long = "x".repeat(MAX_NAME + 1);
        let many = |amount| {
            let all = (0..=MAX_RESOURCES).map(|n| format!("r{n}={amount}"));
            all.collect::<Vec<_>>().join(",")
        };
        let rows = [
            "exceeded quota: ",
            "exceeded quota: q",
            "exceeded quota: q, requested: pods=1, used: pods=1",
            "exceeded quota: , requested: pods=1, used: pods=1, limited: pods=1",
            "exceeded quota: q, requested: , used: , limited: ",
            "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1,cpu=1",
            "exceeded quota: q, requested: pods=1, used: cpu=1, limited: pods=1",
            "exceeded quota: q, requested: pods=1, used: pods=1, limited: podss=1",
            "exceeded quota: q, requested: pods=one, used: pods=1, limited: pods=1",
            "exceeded quota: q, requested: pods=1, used: pods=1e99, limited: pods=1",
            "exceeded quota: q, requested: pods, used: pods, limited: pods",
            "exceeded quota: q, requested: =1, used: =1, limited: =1",
            "exceeded quota: a, b, requested: pods=1, used: pods=1, limited: pods=1",
            "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1 and more",
            "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=1",
            "exceeded quota: q, requested: pods=0, used: pods=2, limited: pods=1",
            "exceeded quota: q, requested: pods=-1, used: pods=9, limited: pods=1",
            "failed quota: q: must specify cpu",
            "status unknown for quota: q, resources: pods",
        ];
        every(rows, |cause| assert_eq!(read(cause), None));
        let one = "requested: pods=1, used: pods=1, limited: pods=1";
        assert_eq!(read(&format!("exceeded quota: {long}, {one}")), None);
        let [asked, used] = [many(1), many(9)];
        let all = format!("requested: {asked}, used: {used}, limited: {used}");
        assert_eq!(read(&format!("exceeded quota: q, {all}")), None);
    }

    /// A client chooses the name of its object, and a webhook its whole message.
    #[test]
    fn a_text_in_a_name_or_of_a_webhook_is_not_read() {
        let cause = "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
        let name = format!("a\" is forbidden: {cause}");
        let message = format!("pods \"{name}\" is forbidden: no");
        assert_eq!(read_of(&name, &message), None);
        let message = format!("admission webhook \"w\" denied the request: {cause}");
        assert_eq!(read_of("a", &message), None);
    }

    #[test]
    fn a_create_above_the_limit_can_never_fit() {
        let read = |asked: &str| {
            let lists = format!("requested: cpu={asked}, used: cpu=1, limited: cpu=2");
            let message = format!("pods \"a\" is forbidden: exceeded quota: q, {lists}");
            read_of("a", &message).unwrap().can_never_fit()
        };
        every(
            [
                ("2", false),
                ("2001m", true),
                ("1500m", false),
                ("1k", true),
            ],
            |(asked, never)| {
                assert_eq!(read(asked), never);
            },
        );
    }
}
