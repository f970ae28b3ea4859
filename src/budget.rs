//! The replay budget: how many replays creates may cause, per namespace and all together.
//!
//! Two kinds, because a storm of quota conflicts is what the proxy is for, while replays of the
//! other classes burden an apiserver that is in trouble already. Counted over the last ten seconds.
//! `create` withdraws before each replay; this module never waits.

use std::sync::Arc;
use std::time::Duration;

use tower::retry::budget::{Budget as _, TpsBudget};

use crate::config;
use crate::keyed::Keyed;
pub use crate::metrics::{BudgetKind as Kind, Scope};

/// How long a create counts. Tower allows 1 to 60 s.
const TTL: Duration = Duration::from_secs(10);
/// Namespaces with a budget of their own; further ones have the global one only.
const MAX_NAMESPACES: usize = 10_000;
/// Outlasts `TTL` by more than the longest hold, so that a dropped budget has nothing to remember.
const IDLE: Duration = Duration::from_secs(120);

/// All budgets. Replaced as a whole when the configuration changes.
#[derive(Debug)]
pub struct Budget {
    config: config::Budgets,
    global: Arc<Pair>,
    namespaces: Keyed<Pair>,
}

impl Budget {
    /// Full budgets. Each namespace has what `config` says, and so have all of them together.
    #[must_use]
    pub fn new(config: &config::Budgets) -> Self {
        Self {
            config: *config,
            global: Arc::new(Pair::new(config)),
            namespaces: Keyed::new(MAX_NAMESPACES, IDLE),
        }
    }

    /// Counts a create, which earns its share of replays. Called once for each, not for its
    /// replays.
    #[must_use]
    pub fn create(&self, namespace: &str) -> NamespaceBudget {
        let budget = NamespaceBudget {
            namespace: self.namespaces.get(namespace, || Pair::new(&self.config)),
            global: Arc::clone(&self.global),
        };
        budget.global.deposit();
        if let Some(namespace) = &budget.namespace {
            namespace.deposit();
        }
        budget
    }
}

/// The budgets that one create draws on.
#[derive(Debug)]
pub struct NamespaceBudget {
    namespace: Option<Arc<Pair>>,
    global: Arc<Pair>,
}

impl NamespaceBudget {
    /// Takes one replay out.
    ///
    /// # Errors
    /// The scope whose budget is spent: the answer is to be relayed.
    pub fn withdraw(&self, kind: Kind) -> Result<(), Scope> {
        // The namespace first: one that is over its own budget shall not use up what belongs to
        // all.
        if self
            .namespace
            .as_ref()
            .is_some_and(|namespace| !namespace.of(kind).withdraw())
        {
            return Err(Scope::Namespace);
        }
        if self.global.of(kind).withdraw() {
            Ok(())
        } else {
            Err(Scope::Global)
        }
    }
}

#[derive(Debug)]
struct Pair {
    quota_conflict: TpsBudget,
    other: TpsBudget,
}

impl Pair {
    fn new(config: &config::Budgets) -> Self {
        Self {
            quota_conflict: tps(config.quota_conflict),
            other: tps(config.other),
        }
    }

    fn deposit(&self) {
        self.quota_conflict.deposit();
        self.other.deposit();
    }

    fn of(&self, kind: Kind) -> &TpsBudget {
        match kind {
            Kind::QuotaConflict => &self.quota_conflict,
            Kind::Other => &self.other,
        }
    }
}

/// Tower counts in whole tokens: a ratio below 1 acts as the next higher 1/n (0.4 as 0.5), one
/// above 1 is exact to a thousandth.
///
/// It asserts its ranges. The configuration has narrower ones; they are repeated here, for a panic
/// would take the process down.
fn tps(budget: config::Budget) -> TpsBudget {
    let ratio = if budget.ratio.is_nan() {
        0.0
    } else {
        budget.ratio.clamp(0.0, 1000.0)
    };
    TpsBudget::new(
        TTL,
        budget.per_second.min(i32::MAX as u32 - 1),
        ratio as f32,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    fn budgets(ratio: f64, per_second: u32) -> Budget {
        let budget = config::Budget { ratio, per_second };
        Budget::new(&config::Budgets {
            quota_conflict: budget,
            other: config::Budget {
                ratio: 0.2,
                per_second: 0,
            },
        })
    }

    /// How often `withdraw` succeeds, up to 10,000.
    fn drain(budget: &NamespaceBudget, kind: Kind) -> usize {
        (0..10_000)
            .take_while(|_| budget.withdraw(kind).is_ok())
            .count()
    }

    #[tokio::test(start_paused = true)]
    async fn the_reserve_allows_replays_however_few_creates_there_are() {
        let budget = budgets(0.0, 3);
        assert_eq!(
            drain(&budget.create("a"), Kind::QuotaConflict),
            30,
            "3 a second over 10 s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn each_create_earns_its_ratio() {
        let budget = budgets(1.0, 0);
        let mut last = budget.create("a");
        for _ in 1..50 {
            last = budget.create("a");
        }
        assert_eq!(drain(&last, Kind::QuotaConflict), 50);
        assert_eq!(drain(&last, Kind::Other), 10, "the kinds do not share");
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_namespace_leaves_the_others_alone() {
        let budget = budgets(1.0, 0);
        let noisy = budget.create("noisy");
        let quiet = budget.create("quiet");
        assert_eq!(noisy.withdraw(Kind::QuotaConflict), Ok(()));
        assert_eq!(noisy.withdraw(Kind::QuotaConflict), Err(Scope::Namespace));
        assert_eq!(quiet.withdraw(Kind::QuotaConflict), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn namespaces_together_are_bounded_too() {
        let budget = budgets(0.0, 1);
        let handles: Vec<_> = (0..3).map(|n| budget.create(&format!("ns-{n}"))).collect();
        assert_eq!(drain(&handles[0], Kind::QuotaConflict), 10);
        assert_eq!(handles[1].withdraw(Kind::QuotaConflict), Err(Scope::Global));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_spent_comes_back_in_time() {
        let budget = budgets(0.0, 2);
        let handle = budget.create("a");
        assert_eq!(drain(&handle, Kind::QuotaConflict), 20);
        tokio::time::advance(TTL + Duration::from_secs(2)).await;
        assert_eq!(drain(&handle, Kind::QuotaConflict), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_without_room_has_the_global_budget_only() {
        let mut budget = budgets(1.0, 0);
        budget.namespaces = Keyed::new(1, IDLE);
        let known = budget.create("a");
        let unknown = budget.create("b");
        assert_eq!(
            drain(&unknown, Kind::QuotaConflict),
            2,
            "what both creates earned"
        );
        assert_eq!(known.withdraw(Kind::QuotaConflict), Err(Scope::Global));
    }

    #[tokio::test(start_paused = true)]
    async fn nonsense_does_not_panic() {
        every([f64::NAN, f64::INFINITY, -1.0, 1e-300], |ratio| {
            let _ = budgets(ratio, u32::MAX)
                .create("a")
                .withdraw(Kind::QuotaConflict);
        });
    }
}
