//! What a run of the loop consists of: settings, creates with what an apiserver answers them, and
//! what happens meanwhile.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use crate::config::{BudgetConfig, Config, Mode, OptIn, Rate};
use crate::drain::Stage;

/// One run. Creates arrive at even milliseconds and events come at odd ones, so that their order is
/// known.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) http2: bool,
    pub(super) servers: usize,
    pub(super) limits: Limits,
    pub(super) max_held: u32,
    pub(super) max_buffered: u64,
    pub(super) creates: Vec<Plan>,
    pub(super) events: Vec<(u64, Event)>,
    pub(super) seed: u64,
}

/// The settings that a reload can change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) mode: Mode,
    pub(super) max_attempts: u32,
    pub(super) max_hold: Duration,
    pub(super) base: Duration,
    pub(super) opt_ins: bool,
    pub(super) budget_ratio: f64,
    pub(super) budget_per_second: u32,
    pub(super) rate: Option<Rate>,
}

#[derive(Debug, Clone)]
pub(super) enum Event {
    Reload(Limits),
    Drain(Stage),
    /// A server breaks its connections and refuses new ones, or does not answer them.
    Down {
        server: usize,
        silent: bool,
    },
    Up {
        server: usize,
    },
}

/// One create.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) at: u64,
    pub(super) namespace: u8,
    pub(super) size: usize,
    /// `?timeout=`.
    pub(super) timeout: Option<Duration>,
    /// How long the client waits at most.
    pub(super) patience: Duration,
    /// How an apiserver answers the attempts, and after how many milliseconds. Later attempts
    /// succeed.
    pub(super) replies: Vec<(Reply, u64)>,
}

/// What an apiserver does with an attempt that has reached it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// It answers with this code, this body, and perhaps Retry-After.
    Answer(&'static Row, Option<u32>),
    /// It answers with a body that is too large to be judged.
    Large(&'static Row),
    /// It sends half of an answer and breaks the connection.
    Truncated(&'static Row),
    /// It breaks the connection.
    Lost,
    /// It never answers.
    Silent,
    /// It refuses the stream unprocessed. Over HTTP/1.1 this is `Lost`.
    Refused,
}

/// A kind of answer, and by hand what it allows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) code: u16,
    reason: &'static str,
    message: &'static str,
    /// The kind in the details; empty for plain text.
    kind: &'static str,
    pub(super) again: Again,
}

/// Whether a create may be sent again after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Never,
    Yes,
    /// At once, if another server is up.
    Elsewhere,
    OptIn,
}

const fn row(
    code: u16,
    reason: &'static str,
    message: &'static str,
    kind: &'static str,
    again: Again,
) -> Row {
    Row {
        code,
        reason,
        message,
        kind,
        again,
    }
}

pub(super) const CREATED: &Row = &row(201, "", "", "", Again::Never);
pub(super) const CONFLICT: &Row = &row(
    409,
    "Conflict",
    "Operation cannot be fulfilled on resourcequotas \"q\": the object has been modified",
    "resourcequotas",
    Again::Yes,
);

pub(super) const FULL_QUOTA: Row = row(
    403,
    "Forbidden",
    "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
    "pods",
    Again::OptIn,
);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row(409, "Conflict", "Precondition failed: UID in precondition: 1, UID in object meta: 2", "resourcequotas", Again::Yes),
    row(429, "", "Too many requests, please try again later.\n", "", Again::Yes),
    row(500, "", "etcdserver: too many requests", "pods", Again::Yes),
    row(429, "", "The apiserver is shutting down, please try again later.\n", "", Again::Elsewhere),
    row(503, "ServiceUnavailable", "apiserver is shutting down", "pods", Again::Elsewhere),
    row(429, "", "The apiserver hasn't been fully initialized yet, please try again later.\n", "", Again::Elsewhere),
    FULL_QUOTA,
    row(403, "Forbidden", "pods \"p\" is forbidden: status unknown for quota: q, resources: pods", "pods", Again::OptIn),
    row(500, "InternalError", "Internal error occurred: resource quota evaluation timed out", "pods", Again::OptIn),
    row(500, "InternalError", "Internal error occurred: failed calling webhook \"w\": timeout", "pods", Again::OptIn),
    row(409, "AlreadyExists", "pods \"p\" already exists", "pods", Again::Never),
    row(409, "Conflict", "Operation cannot be fulfilled on pods \"p\": resourcequotas changed", "pods", Again::Never),
    row(504, "Timeout", "Timeout: request did not complete within the allotted timeout", "pods", Again::Never),
    row(500, "InternalError", "Internal error occurred: etcdserver: request timed out", "pods", Again::Never),
    row(500, "InternalError", "Internal error occurred: resourcequotas", "pods", Again::Never),
    row(401, "Unauthorized", "Unauthorized", "pods", Again::Never),
    row(403, "Forbidden", "pods \"p\" is forbidden: User \"u\" cannot create resource \"pods\"", "pods", Again::Never),
    row(404, "NotFound", "namespaces \"ns\" not found", "namespaces", Again::Never),
    row(422, "Invalid", "Pod \"p\" is invalid", "Pod", Again::Never),
    row(502, "", "<html>resourcequotas</html>", "", Again::Never),
    row(307, "", "", "", Again::Never),
];

impl Row {
    /// The body of the answer, plain text or a Status.
    pub(super) fn body(&self) -> String {
        match (self.code, self.kind) {
            (201, _) => {
                json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}}).to_string()
            }
            (_, "") => self.message.to_owned(),
            _ => json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": self.message, "reason": self.reason, "code": self.code,
                "details": {"name": "p", "kind": self.kind},
            })
            .to_string(),
        }
    }
}

impl Run {
    /// Creates at one server over HTTP/2 that nothing disturbs.
    pub(super) fn of(creates: Vec<Plan>) -> Self {
        Self {
            http2: true,
            servers: 1,
            limits: Limits {
                mode: Mode::Enforce,
                max_attempts: 3,
                max_hold: Duration::from_secs(8),
                base: Duration::from_millis(100),
                opt_ins: false,
                budget_ratio: 1.0,
                budget_per_second: 20,
                rate: None,
            },
            max_held: 100,
            max_buffered: 1 << 20,
            creates,
            events: Vec::new(),
            seed: 0,
        }
    }
}

impl Plan {
    /// A small create whose client waits for long.
    pub(super) fn of(replies: Vec<(Reply, u64)>) -> Self {
        Self {
            at: 0,
            namespace: 0,
            size: 40,
            timeout: None,
            patience: Duration::from_secs(100),
            replies,
        }
    }
}

impl Reply {
    /// Whether the create may be sent again after this.
    pub(super) fn again(self, http2: bool) -> Again {
        match self {
            Reply::Answer(row, _) => row.again,
            Reply::Refused if http2 => Again::Elsewhere,
            Reply::Large(_)
            | Reply::Truncated(_)
            | Reply::Lost
            | Reply::Silent
            | Reply::Refused => Again::Never,
        }
    }

    /// Whether the create then waits for a full quota.
    pub(super) fn is_full_quota(self) -> bool {
        matches!(self, Reply::Answer(row, _) if row.message == FULL_QUOTA.message)
    }

    pub(super) fn retry_after(self) -> Duration {
        match self {
            Reply::Answer(_, Some(seconds)) => Duration::from_secs(seconds.into()),
            _ => Duration::ZERO,
        }
    }
}

impl Limits {
    /// As the file would set them. Each opt-in class may have an attempt more, and hold longer.
    pub(super) fn config(&self) -> Config {
        let mut config = Config {
            mode: self.mode,
            ..Config::default()
        };
        let opt_in = OptIn {
            enabled: self.opt_ins,
            max_attempts: self.most_attempts(Again::OptIn).try_into().unwrap(),
            max_hold: self.longest_hold(Again::OptIn),
        };
        let budget = BudgetConfig::new(self.budget_ratio, self.budget_per_second);
        let replay = &mut config.replay;
        replay.base_delay = self.base;
        replay.max_delay = self.base * 4;
        replay.max_attempts = self.max_attempts.try_into().unwrap();
        replay.max_hold = self.max_hold;
        replay.budget.quota_conflict = budget;
        replay.budget.other = budget;
        replay.exceeded_quota = opt_in;
        replay.quota_status_unknown = opt_in;
        replay.quota_evaluation_timeout = opt_in;
        replay.webhook_unreachable = opt_in;
        config.rate_limit.namespace = self.rate;
        config
    }

    pub(super) fn most_attempts(&self, again: Again) -> u32 {
        self.max_attempts + u32::from(again == Again::OptIn)
    }

    pub(super) fn longest_hold(&self, again: Again) -> Duration {
        match again {
            Again::OptIn => self.max_hold * 2,
            _ => self.max_hold,
        }
    }
}

pub(super) fn any_run() -> impl Strategy<Value = Run> {
    (1usize..=3).prop_flat_map(|servers| {
        (
            any::<bool>(),
            any_limits(),
            prop_oneof![3 => Just(100u32), 1 => 1u32..=2],
            prop_oneof![3 => Just(1u64 << 20), 1 => 1024u64..8192],
            prop::collection::vec(any_plan(), 1..10),
            prop::collection::vec((0u64..4000, any_event(servers)), 0..6),
            any::<u64>(),
        )
            .prop_map(
                move |(http2, limits, max_held, max_buffered, creates, mut events, seed)| {
                    events.iter_mut().for_each(|(at, _)| *at = *at * 2 + 1);
                    events.sort_by_key(|(at, _)| *at);
                    Run {
                        http2,
                        servers,
                        limits,
                        max_held,
                        max_buffered,
                        creates,
                        events,
                        seed,
                    }
                },
            )
    })
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (
        prop_oneof![8 => Just(Mode::Enforce), 1 => Just(Mode::Observe), 1 => Just(Mode::Off)],
        1u32..=5,
        0u64..8000,
        1u64..500,
        any::<bool>(),
        select(vec![0.0, 1.0]),
        select(vec![0, 20, 20]),
        prop::option::weighted(0.2, Just(Rate::new(2.0, 2))),
    )
        .prop_map(
            |(mode, max_attempts, hold, base, opt_ins, budget_ratio, budget_per_second, rate)| {
                Limits {
                    mode,
                    max_attempts,
                    max_hold: Duration::from_millis(hold),
                    base: Duration::from_millis(base),
                    opt_ins,
                    budget_ratio,
                    budget_per_second,
                    rate,
                }
            },
        )
}

fn any_event(servers: usize) -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => any_limits().prop_map(Event::Reload),
        1 => select(vec![Stage::Draining, Stage::Releasing, Stage::Cut]).prop_map(Event::Drain),
        2 => (0..servers, any::<bool>()).prop_map(|(server, silent)| Event::Down { server, silent }),
        2 => (0..servers).prop_map(|server| Event::Up { server }),
    ]
}

fn any_plan() -> impl Strategy<Value = Plan> {
    (
        0u64..2000,
        0u8..3,
        prop_oneof![6 => 40usize..400, 1 => 2000usize..6000, 1 => Just(70_000usize)],
        prop::option::weighted(0.3, (1u64..6000).prop_map(Duration::from_millis)),
        prop_oneof![
            3 => Just(Duration::from_secs(100)),
            1 => (0u64..5000).prop_map(Duration::from_millis),
        ],
        prop::collection::vec((any_reply(), 0u64..1500), 0..6),
    )
        .prop_map(|(at, namespace, size, timeout, patience, replies)| Plan {
            at: at * 2,
            namespace,
            size,
            timeout,
            patience,
            replies,
        })
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let row = || prop_oneof![1 => Just(CONFLICT), 1 => (0..ROWS.len()).prop_map(|row| &ROWS[row])];
    let retry_after = prop_oneof![3 => Just(None), 1 => select(vec![Some(0), Some(1), Some(3600)])];
    prop_oneof![
        // Most answers lead to another attempt, or the runs would be short.
        12 => Just(Reply::Answer(CONFLICT, None)),
        12 => (row(), retry_after).prop_map(|(row, asked)| Reply::Answer(row, asked)),
        1 => row().prop_map(Reply::Large),
        1 => Just(Reply::Large(CREATED)),
        1 => row().prop_map(Reply::Truncated),
        1 => Just(Reply::Lost),
        1 => Just(Reply::Silent),
        2 => Just(Reply::Refused),
    ]
}
