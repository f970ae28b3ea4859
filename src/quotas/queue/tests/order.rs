//! Any sequence of what happens to a queue and its quota.

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
    Wait(u64),
    Leave,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4_u64).prop_map(Step::Enter),
        3 => (1..6_u64).prop_map(Step::End),
        6 => Just(Step::Answer),
        6 => Just(Step::Tell),
        2 => (0..3_000_u64).prop_map(Step::Wait),
        1 => Just(Step::Leave),
    ]
}

proptest! {
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
