//! Counts the creates of an audit log by namespace, resource and user agent, in bounded memory.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Uri};

use super::event::{Answer, Event, Verb};
use super::timeline::Timeline;
use crate::config::{Config, Mode};
use crate::create::CreateSettings;
use crate::route::{MatchedResources, Route};
use crate::verdict::{Class, Policy, Verdict, verdict};

/// The most rows that are kept apart. A client chooses its user agent, so their number has no end.
const MOST_ROWS: usize = 10_000;
/// The name of what no longer has a row of its own.
const OTHER: &str = "_other";
/// The longest namespace, group and resource that are kept, which is the longest name in Kubernetes.
const LONGEST_NAME: usize = 253;
/// The longest part of a user agent that is kept.
const LONGEST_AGENT: usize = 100;

/// What the proxy would do with an answer.
pub(super) struct Judge {
    pub(super) mode: Mode,
    policy: Policy,
    matched: MatchedResources,
}

impl Judge {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            mode: config.mode,
            policy: CreateSettings::new(config).policy,
            matched: MatchedResources::from(&config.creates),
        }
    }

    /// Whether the proxy would send the create again after an answer of this class.
    fn would_replay(&self, event: &Event<'_>, class: Class) -> bool {
        if !matches!(verdict(&class.into(), &self.policy), Verdict::Replay { .. }) {
            return false;
        }
        let mut headers = HeaderMap::new();
        let method = match event.verb {
            Verb::Create => Method::POST,
            Verb::Patch if is_apply(&event.uri) => {
                let apply = HeaderValue::from_static("application/apply-patch+yaml");
                headers.insert(CONTENT_TYPE, apply);
                Method::PATCH
            }
            Verb::Patch => return false,
        };
        event.uri.parse::<Uri>().is_ok_and(|uri| {
            let route = Route::of(&method, &uri, &headers, &self.matched);
            matches!(route, Route::Create(_))
        })
    }
}

/// The apiserver accepts `force` only with server-side applies.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/validation/validation.go>
fn is_apply(uri: &str) -> bool {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|pair| pair.starts_with("force="))
}

/// How creates ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) creates: u64,
    pub(super) quota_conflicts: u64,
    pub(super) throttled: u64,
    pub(super) starting_or_stopping: u64,
    pub(super) would_replay: u64,
}

impl Counts {
    fn add(&mut self, more: &Self) {
        self.creates += more.creates;
        self.quota_conflicts += more.quota_conflicts;
        self.throttled += more.throttled;
        self.starting_or_stopping += more.starting_or_stopping;
        self.would_replay += more.would_replay;
    }

    /// Whether any create met what a replay is for.
    pub(super) fn any(&self) -> bool {
        self.quota_conflicts + self.throttled + self.starting_or_stopping + self.would_replay > 0
    }
}

/// The creates of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) namespace: String,
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) verb: &'static str,
    pub(super) user_agent: String,
    pub(super) counts: Counts,
}

/// Everything that was counted.
pub(super) struct Tally {
    pub(super) judge: Judge,
    rows: Vec<Row>,
    /// The place of each row, by its verb, namespace, group, resource and user agent.
    index: HashMap<String, usize>,
    /// The key of the current event. It is kept, so that an event allocates nothing.
    key: String,
    /// The answers by class.
    pub(super) answers: HashMap<Class, u64>,
    /// The times of the first and the last create.
    pub(super) span: Option<(i64, i64)>,
    /// Quota conflicts, throttled creates, and creates refused by a starting or stopping server.
    pub(super) timeline: Timeline<3>,
    /// Creates that met one of those three, after which the proxy would not send them again.
    pub(super) relayed: u64,
    /// Events of creates that were written before the answer.
    pub(super) pending: u64,
    /// Events of creates that lack the answer.
    pub(super) missing: u64,
}

impl Tally {
    pub(super) fn new(judge: Judge) -> Self {
        Self {
            judge,
            rows: Vec::new(),
            index: HashMap::new(),
            key: String::new(),
            answers: HashMap::new(),
            span: None,
            timeline: Timeline::new(),
            relayed: 0,
            pending: 0,
            missing: 0,
        }
    }

    /// Counts an event, if it tells how a create ended.
    pub(super) fn count(&mut self, event: &Event<'_>) {
        let class = match (event.answer, event.verb) {
            // Most patches change an object. Only these two answers tell those that create one.
            (Answer::Is { class, created }, Verb::Patch)
                if created || class.is_quota_conflict() =>
            {
                class
            }
            (_, Verb::Patch) => return,
            (Answer::Is { class, .. }, Verb::Create) => class,
            (Answer::Pending, Verb::Create) => {
                self.pending += 1;
                return;
            }
            (Answer::Missing, Verb::Create) => {
                self.missing += 1;
                return;
            }
        };
        let counts = Counts {
            creates: 1,
            quota_conflicts: class.is_quota_conflict().into(),
            throttled: (class == Class::Throttled).into(),
            starting_or_stopping: matches!(class, Class::StartingUp | Class::ShuttingDown).into(),
            would_replay: self.judge.would_replay(event, class).into(),
        };
        *self.answers.entry(class).or_default() += 1;
        let met = [
            counts.quota_conflicts,
            counts.throttled,
            counts.starting_or_stopping,
        ];
        let met = met.iter().position(|count| *count > 0);
        if met.is_some() && counts.would_replay == 0 {
            self.relayed += 1;
        }
        if let Some(time) = event.time {
            let (first, last) = self.span.unwrap_or((time, time));
            self.span = Some((first.min(time), last.max(time)));
            if let Some(which) = met {
                self.timeline.count(time, which);
            }
        }
        self.row(event, class).counts.add(&counts);
    }

    /// The row of an event. A client that comes when all rows are taken goes into a row for the
    /// others of its resource, and when there are too many of those, into one for all others.
    fn row(&mut self, event: &Event<'_>, class: Class) -> &mut Row {
        let agent = short(&event.user_agent);
        let verb = event.verb.as_str();
        let [namespace, group, resource] =
            [&event.namespace, &event.group, &event.resource].map(|name| cut(name, LONGEST_NAME));
        let own = [namespace, group, resource, &*agent];
        let of_resource = [own[0], own[1], own[2], OTHER];
        let of_all = [OTHER, "", OTHER, OTHER];
        let mut choice = own;
        let mut known = self.find(verb, choice);
        // Anyone can cause these answers, with any name, and could take all rows.
        let steps = match class {
            Class::Unauthorized | Class::Rejected => [(of_all, 0), (of_all, 0)],
            _ => [(of_resource, MOST_ROWS), (of_all, 2 * MOST_ROWS)],
        };
        for (next, most) in steps {
            if known.is_none() && self.rows.len() >= most {
                choice = next;
                known = self.find(verb, choice);
            }
        }
        let at = known.unwrap_or_else(|| {
            let [namespace, group, resource, user_agent] = choice.map(str::to_owned);
            self.index.insert(self.key.clone(), self.rows.len());
            self.rows.push(Row {
                namespace,
                group,
                resource,
                verb,
                user_agent,
                counts: Counts::default(),
            });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    /// Looks for a row, and leaves its key in `self.key`.
    fn find(&mut self, verb: &str, parts: [&str; 4]) -> Option<usize> {
        self.key.clear();
        self.key.push_str(verb);
        for part in parts {
            self.key.push('\0');
            self.key.push_str(part);
        }
        self.index.get(&self.key).copied()
    }

    /// All creates together.
    pub(super) fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.rows.iter().for_each(|row| total.add(&row.counts));
        total
    }

    /// The rows, those with the most conflicts first.
    pub(super) fn rows(&self) -> Vec<&Row> {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by_cached_key(|row| {
            let Counts {
                creates,
                quota_conflicts,
                throttled,
                starting_or_stopping,
                would_replay,
            } = row.counts;
            let names = (&row.namespace, &row.group, &row.resource, row.verb);
            (
                Reverse((quota_conflicts, throttled + starting_or_stopping)),
                Reverse((would_replay, creates)),
                names,
                &row.user_agent,
            )
        });
        rows
    }
}

/// The part of a user agent that names a program: `argo-workflows/v3.4.17 argo-controller` of
/// `argo-workflows/v3.4.17 argo-controller`, and `kubectl/v1.37.2` of `kubectl/v1.37.2
/// (linux/amd64) kubernetes/abc`. kube-controller-manager adds the account of each of its
/// controllers at the end, whose name stays.
fn short(user_agent: &str) -> Cow<'_, str> {
    let program = user_agent.split(" (").next().unwrap_or_default().trim();
    let program = cut(program, LONGEST_AGENT);
    if program.is_empty() {
        return Cow::Borrowed("(none)");
    }
    match user_agent.rsplit_once("/system:serviceaccount:") {
        Some((_, account)) => {
            let name = account.rsplit(':').next().unwrap_or_default();
            Cow::Owned(format!("{program} {}", cut(name, LONGEST_AGENT)))
        }
        None => Cow::Borrowed(program),
    }
}

/// The first bytes of a text.
fn cut(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}

#[cfg(test)]
mod tests;
