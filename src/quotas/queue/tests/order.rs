//! Any sequence of what happens to a queue and its quotas.

use std::cell::RefCell;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Enter(u64),
    /// Pods end.
    End(u64),
    /// The apiserver answers the oldest attempt, by its own count.
    Answer,
    /// The status reaches the watch.
    Tell,
    /// A new create finds room at its first attempt.
    Pass,
    Wait(u64),
    Leave,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4_u64).prop_map(Step::Enter),
        3 => (1..6_u64).prop_map(Step::End),
        6 => Just(Step::Answer),
        6 => Just(Step::Tell),
        1 => Just(Step::Pass),
        2 => (0..3_000_u64).prop_map(Step::Wait),
        1 => Just(Step::Leave),
    ]
}

/// What a watch says, and what quota admission does, which need not agree.
#[derive(Debug, Clone)]
enum News {
    /// Many creates enter that ask for this.
    Enter(u64),
    Is(&'static str, u64, u64),
    Gone(&'static str),
    List(Vec<(&'static str, u64, u64)>),
    Lost,
    /// This quota refuses all attempts that are in flight.
    Refuse(&'static str),
}

fn news() -> impl Strategy<Value = News> {
    let name = || prop_oneof![Just("q"), Just("other")];
    let quota = || (name(), 0..4_u64, 0..4_u64);
    prop_oneof![
        2 => (1..4_u64).prop_map(News::Enter),
        6 => quota().prop_map(|(name, hard, used)| News::Is(name, hard, used)),
        3 => name().prop_map(News::Gone),
        2 => proptest::collection::vec(quota(), 0..3).prop_map(News::List),
        1 => Just(News::Lost),
        6 => name().prop_map(News::Refuse),
    ]
}

proptest! {
    /// While no time passes, each create is sent at most three times: because it fits, again if a
    /// quota has refused it that had not done so before, and because it can never fit.
    #[test]
    fn no_news_make_a_tight_loop_or_send_too_many(
        all in proptest::collection::vec(news(), 1..60),
    ) {
        let list = |amount: u64| format!("pods={amount}");
        let its = |hard, used| limits(&list(hard), &list(used));
        let mut fixture = Fixture::new("pods=3", "pods=3");
        let mut asks = Vec::new();
        let mut sent: Vec<u32> = Vec::new();
        let mut in_flight: Vec<u64> = Vec::new();
        for one in all {
            match one {
                News::Enter(amount) => {
                    for _ in 0..MAX_WOKEN {
                        fixture.enter(asks.len() as u64, &list(amount));
                        asks.push(amount);
                        sent.push(0);
                    }
                }
                News::Is(name, hard, used) => fixture.queue.changed(name.into(), its(hard, used)),
                News::Gone(name) => fixture.queue.gone(name),
                News::List(quotas) => {
                    let quotas = quotas.into_iter();
                    let quotas = quotas.map(|(name, hard, used)| (name.into(), its(hard, used)));
                    fixture.queue.list(quotas.collect());
                }
                News::Lost => fixture.queue.lost(),
                News::Refuse(name) => {
                    for id in in_flight.drain(..) {
                        let by = refusal(name, &list(asks[id as usize]));
                        // One that can never fit ends.
                        let _ = fixture.is_refused(id, Some(&by));
                    }
                }
            }
            for id in fixture.woken() {
                sent[id as usize] += 1;
                in_flight.push(id);
            }
            prop_assert!(in_flight.len() <= MAX_WOKEN, "{} are in flight", in_flight.len());
        }
        let most = sent.into_iter().max().unwrap_or_default();
        prop_assert!(most <= 3, "one was sent {most} times");
    }

    /// Against a quota that only these creates use: what is sent at a time always fits into what the
    /// last status said was free, older ones go first, and in the end everybody goes.
    #[test]
    fn creates_go_in_order_and_never_more_than_fit(
        steps in proptest::collection::vec(step(), 1..120),
        hard in 3..20_u64,
    ) {
        let list = |amount: u64| format!("pods={amount}");
        let mut fixture = Fixture::new(&list(hard), &list(hard));
        let (mut used, mut told) = (hard, hard);
        let mut asks: BTreeMap<u64, u64> = BTreeMap::new();
        let in_flight = RefCell::new(Vec::<u64>::new());
        let mut next = 0;
        for step in steps {
            match step {
                Step::Enter(amount) => {
                    asks.insert(next, amount);
                    fixture.enter(next, &list(amount));
                    next += 1;
                }
                Step::End(amount) => used = used.saturating_sub(amount),
                Step::Answer => {
                    if let Some(id) = in_flight.borrow_mut().pop() {
                        if used + asks[&id] <= hard {
                            used += asks[&id];
                            asks.remove(&id);
                            fixture.created(id);
                        } else {
                            fixture.refused(id, "q", &list(asks[&id]));
                        }
                    }
                }
                Step::Tell => {
                    told = used;
                    fixture.used(&list(hard), &list(used));
                }
                Step::Pass => used = hard.min(used + 1),
                Step::Wait(millis) => fixture.now += Duration::from_millis(millis),
                Step::Leave => {
                    let waits = asks.keys().find(|id| !in_flight.borrow().contains(id)).copied();
                    if let Some(id) = waits {
                        asks.remove(&id);
                        fixture.created(id);
                    }
                }
            }
            let sent = fixture.sent();
            let fits: Vec<_> = sent.iter().filter(|(_, why)| *why == Why::Fits).collect();
            // In order: nobody older is left behind, because all ask for the same.
            let oldest: Vec<_> = asks
                .keys()
                .filter(|id| !in_flight.borrow().contains(id))
                .take(sent.len())
                .copied()
                .collect();
            prop_assert_eq!(sent.iter().map(|(id, _)| *id).collect::<Vec<_>>(), oldest);
            in_flight.borrow_mut().extend(sent.iter().map(|(id, _)| *id));
            if !fits.is_empty() {
                let all: u64 = fits.iter().map(|(id, _)| asks[id]).sum();
                prop_assert!(told + all <= hard, "{told} + {all} > {hard}");
            }
        }
        // Everything ends, and the rest goes.
        for _ in 0..4_000 {
            if asks.is_empty() {
                break;
            }
            used = used.saturating_sub(1);
            while let Some(id) = in_flight.borrow_mut().pop() {
                if used + asks[&id] <= hard {
                    used += asks[&id];
                    asks.remove(&id);
                    fixture.created(id);
                } else {
                    fixture.refused(id, "q", &list(asks[&id]));
                }
            }
            fixture.used(&list(hard), &list(used));
            fixture.now += Duration::from_millis(500);
            let sent = fixture.sent();
            in_flight.borrow_mut().extend(sent.iter().map(|(id, _)| *id));
        }
        prop_assert!(asks.is_empty(), "{} wait for ever", asks.len());
        prop_assert_eq!(fixture.queue.len(), 0);
    }
}
