//! The replay budget: how many replays creates may cause, per namespace and for all namespaces
//! together.
//!
//! There are two kinds. The proxy exists for storms of quota conflicts, but replays of the other
//! classes add load to an apiserver that is already in trouble. Budgets count the last ten seconds.
//! `create` withdraws before each replay. This module never waits.

use std::sync::Arc;
use std::time::Duration;

use tower::retry::budget::{Budget as _, TpsBudget};

use crate::config;
use crate::keyed::Keyed;
pub use crate::metrics::{BudgetKind, Scope};

/// How long a create counts. Tower allows 1 to 60 s.
const TTL: Duration = Duration::from_secs(10);
/// How many namespaces have their own budget. Further ones use only the global one.
const MAX_NAMESPACES: usize = 10_000;
/// Longer than `TTL` and the longest hold together, so that a dropped budget has nothing to
/// remember.
const IDLE: Duration = Duration::from_secs(120);

/// All budgets. A change of the configuration replaces them as a whole.
#[derive(Debug)]
pub struct Budget {
    config: config::Budgets,
    global: Arc<Pair>,
    namespaces: Keyed<Pair>,
}

impl Budget {
    /// Full budgets. Each namespace has the amounts of `config`, and so have all of them together.
    #[must_use]
    pub fn new(config: &config::Budgets) -> Self {
        Self {
            config: *config,
            global: Arc::new(Pair::new(config)),
            namespaces: Keyed::new(MAX_NAMESPACES, IDLE),
        }
    }

    /// Counts a create, which adds to the budgets. The caller counts each create once, and does not
    /// count replays.
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
    /// Withdraws one replay.
    ///
    /// # Errors
    /// The scope whose budget is spent. The create must not be replayed.
    pub fn withdraw(&self, kind: BudgetKind) -> Result<(), Scope> {
        // The namespace comes first: a namespace without budget must not use up the global one.
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

    fn of(&self, kind: BudgetKind) -> &TpsBudget {
        match kind {
            BudgetKind::QuotaConflict => &self.quota_conflict,
            BudgetKind::Other => &self.other,
        }
    }
}

/// tower counts whole tokens: a ratio below 1 acts as the next higher 1/n (0.4 as 0.5), and a ratio
/// above 1 is exact to a thousandth.
///
/// tower asserts its ranges. The ranges of the configuration's types are narrower.
fn tps(budget: config::BudgetConfig) -> TpsBudget {
    let ratio = budget.ratio.get() as f32;
    TpsBudget::new(TTL, budget.per_second.get(), ratio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    fn budgets(ratio: f64, per_second: u32) -> Budget {
        Budget::new(&config::Budgets {
            quota_conflict: config::BudgetConfig::new(ratio, per_second),
            other: config::BudgetConfig::new(0.2, 0),
        })
    }

    /// How often `withdraw` succeeds, up to 10,000.
    fn drain(budget: &NamespaceBudget, kind: BudgetKind) -> usize {
        (0..10_000)
            .take_while(|_| budget.withdraw(kind).is_ok())
            .count()
    }

    #[tokio::test(start_paused = true)]
    async fn the_reserve_allows_replays_even_with_few_creates() {
        let budget = budgets(0.0, 3);
        assert_eq!(
            drain(&budget.create("a"), BudgetKind::QuotaConflict),
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
        assert_eq!(drain(&last, BudgetKind::QuotaConflict), 50);
        assert_eq!(
            drain(&last, BudgetKind::Other),
            10,
            "the kinds do not share"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_namespace_cannot_spend_the_budget_of_another() {
        let budget = budgets(1.0, 0);
        let noisy = budget.create("noisy");
        let quiet = budget.create("quiet");
        assert_eq!(noisy.withdraw(BudgetKind::QuotaConflict), Ok(()));
        assert_eq!(
            noisy.withdraw(BudgetKind::QuotaConflict),
            Err(Scope::Namespace)
        );
        assert_eq!(quiet.withdraw(BudgetKind::QuotaConflict), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn all_namespaces_together_have_a_limit_too() {
        let budget = budgets(0.0, 1);
        let handles: Vec<_> = (0..3).map(|n| budget.create(&format!("ns-{n}"))).collect();
        assert_eq!(drain(&handles[0], BudgetKind::QuotaConflict), 10);
        assert_eq!(
            handles[1].withdraw(BudgetKind::QuotaConflict),
            Err(Scope::Global)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_budget_refills() {
        let budget = budgets(0.0, 2);
        let handle = budget.create("a");
        assert_eq!(drain(&handle, BudgetKind::QuotaConflict), 20);
        tokio::time::advance(TTL + Duration::from_secs(2)).await;
        assert_eq!(drain(&handle, BudgetKind::QuotaConflict), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_without_room_has_the_global_budget_only() {
        let mut budget = budgets(1.0, 0);
        budget.namespaces = Keyed::new(1, IDLE);
        let known = budget.create("a");
        let unknown = budget.create("b");
        assert_eq!(
            drain(&unknown, BudgetKind::QuotaConflict),
            2,
            "what both creates earned"
        );
        assert_eq!(
            known.withdraw(BudgetKind::QuotaConflict),
            Err(Scope::Global)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn extremes_do_not_panic() {
        every([0.0, 1e-300, 10.0], |ratio| {
            let _ = budgets(ratio, 1_000_000)
                .create("a")
                .withdraw(BudgetKind::QuotaConflict);
        });
    }
}
