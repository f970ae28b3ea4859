//! The sections `replay` and `rateLimit`. Both are reloaded at run time.

use std::path::PathBuf;
use std::time::Duration;

use super::declare::{settings, words};
use super::kind::{
    OptionalSection, SectionList, Subsection, boolean, duration, number, path, whole, word,
};
use super::{
    Attempts, Burst, Count, HOUR, MILLISECOND, Qps, Ratio, Resource, SERVICE_ACCOUNT_TOKEN, Wait,
};

const MAX_ATTEMPTS: Attempts = Attempts::new(8);
const MAX_HOLD: Duration = Duration::from_secs(8);

words! {
    /// What the proxy does after an answer that does not tell whether the object was stored.
    pub enum Ambiguous {
        /// Relay the answer, or say in a 504 that there is none.
        Relay = "Relay",
        /// Look for the object with the caller's own credentials, and answer what is true.
        Resolve = "Resolve",
    }
}

settings! {
    /// When and how often the proxy sends a create again.
    pub struct ReplayConfig {
        /// The upper bound of the pause before the second attempt. It doubles with each further
        /// attempt.
        ///
        /// Each pause is a random time between zero and its upper bound. The bound should be longer
        /// than the watch lag of the kube-apiservers (tens of milliseconds). Otherwise the replay
        /// meets the same outdated quota.
        base_delay: Duration = Duration::from_millis(100), duration(MILLISECOND, HOUR);
        /// The highest upper bound of a pause. At least `baseDelay`.
        max_delay: Duration = Duration::from_secs(2), duration(MILLISECOND, HOUR);
        /// How many attempts one create gets, the first one included. 1 means that nothing is
        /// replayed.
        max_attempts: Attempts = MAX_ATTEMPTS, whole();
        /// How long after the arrival of a create its last attempt may start.
        ///
        /// The time counts reading the body, the rate limit, attempts and pauses. Set it to half of
        /// the clients' own timeout or less, so that the last attempt has time for its answer. If
        /// a client sends its timeout (`?timeout=`), the proxy starts an attempt only if one as
        /// slow as the slowest so far would end in time.
        max_hold: Duration = MAX_HOLD, duration(Duration::ZERO, HOUR);
        /// How many replays the proxy may make, in each namespace and in all together. When a
        /// budget is used up, the client gets the answer of kube-apiserver.
        budget: Budgets = Budgets::default(), Subsection;
        /// What to do if a connection breaks after a create was sent, or if kube-apiserver answers
        /// that it ran out of time. The object may have been stored.
        ///
        /// `Resolve` looks for an object with a name. If it is not there, the create is sent again.
        /// If it is there and provably of this create, the client gets 201. The caller must be
        /// allowed to get the object. docs/ambiguous-creates.md says what proves it.
        ambiguous: Ambiguous = Ambiguous::Relay, word();
        /// Whether the proxy completes the name of an object that has only a `generateName`, by
        /// kube-apiserver's own rules, before it sends the create. Needs `ambiguous: Resolve`.
        ///
        /// Without it, such a create is never sent again after an ambiguous answer. Admission
        /// webhooks see the name.
        complete_generate_name: bool = false, boolean();
        /// Whether to hold a create that was refused with `exceeded quota` until the quota has
        /// room.
        ///
        /// A quota has room again when pods end, which takes as long as pods run.
        exceeded_quota: OptIn = OptIn {
            enabled: false,
            max_attempts: Attempts::new(30),
            max_hold: Duration::from_secs(30),
        }, Subsection;
        /// How creates wait for a full quota, if `exceededQuota` is enabled.
        full_quotas: FullQuotas = FullQuotas::default(), Subsection;
        /// Whether to replay a create that was refused with `status unknown for quota`. The quota
        /// is new, and its usage has not been counted yet.
        quota_status_unknown: OptIn = OptIn::default(), Subsection;
        /// Whether to replay a create that was refused with `resource quota evaluation timed out`.
        ///
        /// kube-apiserver has spent 10 s by then, and may have charged the quota.
        quota_evaluation_timeout: OptIn = OptIn {
            enabled: false,
            max_attempts: Attempts::new(2),
            max_hold: Duration::from_secs(25),
        }, Subsection;
        /// Whether to replay a create that was refused with `failed calling webhook`.
        ///
        /// Other webhooks may see the create more than once. A webhook that does not respond fails
        /// after 10 s by default.
        webhook_unreachable: OptIn = OptIn {
            enabled: false,
            max_attempts: Attempts::new(4),
            max_hold: Duration::from_secs(25),
        }, Subsection;
    }
}

settings! {
    /// A class of answers that is replayed only when asked for, with limits of its own.
    #[derive(Copy, Eq)]
    pub struct OptIn {
        /// Whether the proxy replays these creates at all.
        enabled: bool = false, boolean();
        /// How many attempts one create gets, the first one included.
        max_attempts: Attempts = MAX_ATTEMPTS, whole();
        /// How long after the arrival of a create its last attempt may start.
        max_hold: Duration = MAX_HOLD, duration(Duration::ZERO, HOUR);
    }
}

settings! {
    /// How creates wait for a full quota.
    #[derive(Eq)]
    pub struct FullQuotas {
        /// Whether the proxy watches the quotas that creates wait for, and sends a create again when
        /// it fits.
        ///
        /// The oldest create goes first, and only as many are sent as fit. `exceededQuota.maxHold`
        /// and the client's own timeout end the wait; `exceededQuota.maxAttempts` does not count.
        /// Without a watch, each create polls with growing pauses.
        watch: bool = false, boolean();
        /// The file with the bearer token that the proxy watches quotas with.
        ///
        /// The token must be allowed to list and watch `resourcequotas` in the namespaces of the
        /// creates. The proxy uses it for nothing else. Where it is not allowed to, creates poll.
        token_file: PathBuf = SERVICE_ACCOUNT_TOKEN.into(), path();
        /// How many creates of one namespace may wait for a full quota at the same time.
        ///
        /// Above the limit, the client gets the answer of kube-apiserver.
        max_waiting: Count<1, 1_000_000> = Count::new(1_000), whole();
        /// How many namespaces the proxy watches at the same time. Creates of other namespaces
        /// poll.
        ///
        /// A namespace is watched only while creates of it wait.
        max_watches: Count<1, 10_000> = Count::new(100), whole();
    }
}

settings! {
    /// The replay budgets, one for each kind of answer.
    #[derive(Copy)]
    pub struct Budgets {
        /// Replays after a quota conflict.
        ///
        /// A tighter budget passes conflicts on to clients in a storm: a third of all creates
        /// conflicted in the storms that were measured.
        quota_conflict: BudgetConfig = BudgetConfig::default(), Subsection;
        /// Replays after everything else: throttling, shutdown, etcd overload, failed connections
        /// and the four opt-in classes below.
        other: BudgetConfig = BudgetConfig::new(0.2, 10), Subsection;
    }
}

settings! {
    /// How many replays are allowed.
    #[derive(Copy)]
    pub struct BudgetConfig {
        /// How many replays each create adds to the budget.
        ratio: Ratio<10> = Ratio::new(1.0), number("1.0");
        /// How many replays a second are allowed even if there are few creates.
        per_second: Count<0, 1_000_000> = Count::new(20), whole();
    }
}

impl BudgetConfig {
    /// For constants and tests.
    ///
    /// # Panics
    /// When a number is out of the range of its setting.
    #[must_use]
    pub const fn new(ratio: f64, per_second: u32) -> Self {
        Self {
            ratio: Ratio::new(ratio),
            per_second: Count::new(per_second),
        }
    }
}

settings! {
    /// How many creates a second the proxy lets through.
    pub struct RateLimitConfig {
        /// The limit of each namespace, for example `{qps: 20, burst: 30}`. If not set, there is
        /// none.
        namespace: Option<Rate> = None, OptionalSection;
        /// The limit of all creates together, in the same form. If not set, there is none.
        global: Option<Rate> = None, OptionalSection;
        /// How long a create may wait for its turn. With 0s the proxy answers 429 at once.
        max_wait: Wait<0> = Wait::secs(5), duration(Duration::ZERO, HOUR);
        /// The resources whose creates count, as in `creates.resources`. A create of anything else
        /// does not wait for a turn and takes none away. Nor does one that `creates.resources` and
        /// `creates.except` do not choose.
        resources: Vec<Resource> = vec![Resource::named("", "pods")], SectionList;
        /// How many namespaces the proxy remembers at the same time. It forgets idle ones first.
        max_namespaces: Count<1, 1_000_000> = Count::new(10_000), whole();
    }
}

settings! {
    /// A rate with a burst, as in client-go.
    #[derive(Copy)]
    pub struct Rate {
        /// How many creates a second are let through in the long run. 0.5 means one every two
        /// seconds.
        qps: Qps = Qps::new(20.0), number("20"), required true;
        /// How many creates are let through at once after a quiet time.
        burst: Burst = Burst::new(30), whole(), required true;
    }
}

impl Rate {
    /// For constants and tests.
    ///
    /// # Panics
    /// When a number is out of the range of its setting.
    #[must_use]
    pub const fn new(qps: f64, burst: u32) -> Self {
        Self {
            qps: Qps::new(qps),
            burst: Burst::new(burst),
        }
    }
}
