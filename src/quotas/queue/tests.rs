mod order;

use super::*;
use crate::quantity::Quantity;
use crate::rows::every;
use crate::status::{Details, Status};

const NOBODY: [u64; 0] = [];

/// A queue with its clock, whose creates are named by their order of arrival.
struct Fixture {
    queue: Queue,
    now: Instant,
    start: Instant,
}

fn amounts(list: &str) -> HashMap<Box<str>, Quantity> {
    list.split(',')
        .filter_map(|item| item.split_once('='))
        .map(|(name, amount)| (name.into(), amount.parse().unwrap()))
        .collect()
}

/// `hard` and `used` as lists, like `pods=50,requests.cpu=40`.
fn limits(hard: &str, used: &str) -> Limits {
    Limits {
        hard: amounts(hard),
        used: amounts(used),
        is_counted: true,
    }
}

/// The refusal of a quota that has nothing free.
fn refusal(quota: &str, asked: &str) -> Exceeded {
    let full = asked.replace('=', "=9223");
    let cause =
        format!("exceeded quota: {quota}, requested: {asked}, used: {full}, limited: {full}");
    let status = Status::new(
        403,
        "Forbidden",
        format!("pods \"a\" is forbidden: {cause}"),
    );
    Exceeded::of(&Status {
        details: Details {
            name: "a".into(),
            kind: "pods".into(),
            ..Details::default()
        },
        ..status
    })
    .unwrap()
}

impl Fixture {
    /// Follows one quota `q`.
    fn new(hard: &str, used: &str) -> Self {
        let start = Instant::now();
        let mut queue = Queue::default();
        queue.list(vec![("q".into(), limits(hard, used))]);
        Self {
            queue,
            now: start,
            start,
        }
    }

    fn ticket(&self, id: u64) -> Ticket {
        Ticket {
            arrived: self.start + Duration::from_micros(id),
            id,
        }
    }

    /// A create enters that the quota `q` has refused.
    fn enter(&mut self, id: u64, asked: &str) {
        self.queue.enter(self.ticket(id), true);
        self.refused(id, "q", asked);
    }

    fn refused(&mut self, id: u64, quota: &str, asked: &str) {
        assert_eq!(self.is_refused(id, Some(&refusal(quota, asked))), Ok(()));
    }

    /// As a create does after a refusal: it waits, or it ends.
    fn is_refused(&mut self, id: u64, by: Option<&Exceeded>) -> Result<(), NeverFits> {
        let ticket = self.ticket(id);
        let refused = self.queue.refused(ticket, by, self.now);
        match refused {
            Ok(()) => self.queue.waits(ticket),
            Err(NeverFits) => self.queue.leave(ticket, self.now),
        }
        refused
    }

    /// The creates that are sent now, in order, and why.
    fn sent(&mut self) -> Vec<(u64, Why)> {
        let (changed, _) = self.queue.advance(self.now);
        let taken =
            changed
                .into_iter()
                .filter_map(|ticket| match self.queue.take(ticket, self.now) {
                    Standing::Woken(why) => Some((ticket.id, why)),
                    _ => None,
                });
        taken.collect()
    }

    fn woken(&mut self) -> Vec<u64> {
        self.sent().into_iter().map(|(id, _)| id).collect()
    }

    fn used(&mut self, hard: &str, used: &str) {
        self.queue.changed("q".into(), limits(hard, used));
    }

    fn created(&mut self, id: u64) {
        self.queue.leave(self.ticket(id), self.now);
    }

    fn standing(&mut self, id: u64) -> Standing {
        self.queue.take(self.ticket(id), self.now)
    }
}

#[test]
fn wakes_the_oldest_and_as_many_as_fit() {
    let mut queue = Fixture::new("pods=50", "pods=50");
    for id in [5, 3, 9, 1, 7] {
        queue.enter(id, "pods=1");
    }
    assert_eq!(queue.woken(), NOBODY);
    queue.used("pods=50", "pods=47");
    assert_eq!(queue.woken(), [1, 3, 5]);
    // What they ask for is reserved.
    assert_eq!(queue.woken(), NOBODY);
    queue.used("pods=50", "pods=47");
    assert_eq!(queue.woken(), NOBODY);
    // They are counted by the next status.
    [1, 3, 5].into_iter().for_each(|id| queue.created(id));
    queue.used("pods=50", "pods=49");
    assert_eq!(queue.woken(), [7]);
}

#[test]
fn a_reservation_ends_after_a_while_without_a_status() {
    let mut queue = Fixture::new("pods=1", "pods=0");
    queue.enter(1, "pods=1");
    queue.enter(2, "pods=1");
    assert_eq!(queue.woken(), [1]);
    queue.created(1);
    assert_eq!(queue.woken(), NOBODY);
    queue.now += SETTLE;
    assert_eq!(queue.woken(), [2]);
}

#[test]
fn a_create_that_leaves_before_it_is_sent_reserves_nothing() {
    let mut queue = Fixture::new("pods=1", "pods=0");
    queue.enter(1, "pods=1");
    queue.enter(2, "pods=1");
    let (woken, _) = queue.queue.advance(queue.now);
    assert_eq!(woken, [queue.ticket(1)]);
    queue.created(1);
    assert_eq!(queue.woken(), [2]);
}

#[test]
fn a_create_that_is_refused_again_returns_to_its_place_after_a_pause() {
    let mut queue = Fixture::new("pods=9", "pods=8");
    queue.enter(1, "pods=1");
    queue.enter(2, "pods=1");
    let mut pause = FIRST_PAUSE;
    for _ in 0..8 {
        assert_eq!(queue.woken(), [1], "{pause:?}");
        queue.refused(1, "q", "pods=1");
        // Events that come meanwhile wake nobody: each attempt would be lost.
        queue.used("pods=9", "pods=8");
        assert_eq!(queue.woken(), NOBODY);
        let (_, next) = queue.queue.advance(queue.now);
        assert_eq!(next, Some(queue.now + pause));
        queue.now += pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    assert_eq!(queue.woken(), [1]);
    queue.created(1);
    queue.used("pods=9", "pods=8");
    assert_eq!(queue.woken(), [2], "a success ends the pauses");
    queue.refused(2, "q", "pods=1");
    let (_, next) = queue.queue.advance(queue.now);
    assert_eq!(next, Some(queue.now + FIRST_PAUSE));
}

/// The watch breaks, and follows again while the poll of the oldest is in flight.
#[test]
fn a_create_that_polled_meanwhile_returns_to_its_place() {
    let mut queue = Fixture::new("pods=1", "pods=1");
    queue.enter(1, "pods=1");
    queue.enter(2, "pods=1");
    queue.queue.lost();
    assert_eq!(queue.woken(), NOBODY);
    assert_eq!(queue.standing(1), Standing::Polls);
    queue.queue.polls(queue.ticket(1));
    let full = vec![("q".into(), limits("pods=1", "pods=1"))];
    queue.queue.list(full);
    queue.refused(1, "q", "pods=1");
    assert_eq!(queue.woken(), NOBODY);
    queue.used("pods=1", "pods=0");
    assert_eq!(queue.woken(), [1]);
}

#[test]
fn what_an_older_create_waits_for_is_kept_for_it() {
    let mut queue = Fixture::new("cpu=10,pods=9,memory=1Gi", "cpu=8,pods=8,memory=0");
    queue.enter(1, "cpu=4,pods=1");
    queue.enter(2, "cpu=1");
    queue.enter(3, "pods=1");
    queue.enter(4, "memory=1Mi");
    // The second would fit, and so would the third without the first.
    assert_eq!(queue.woken(), [4]);
    queue.used("cpu=10,pods=9,memory=1Gi", "cpu=6,pods=8,memory=0");
    assert_eq!(queue.woken(), [1]);
    queue.used("cpu=10,pods=10,memory=1Gi", "cpu=5,pods=8,memory=0");
    assert_eq!(queue.woken(), [2, 3]);
}

#[test]
fn a_create_above_the_limit_is_sent_for_its_last_refusal_and_holds_nobody_up() {
    let mut queue = Fixture::new("cpu=10", "cpu=10");
    queue.enter(1, "cpu=8");
    queue.enter(2, "cpu=1");
    assert_eq!(queue.woken(), NOBODY);
    queue.used("cpu=7", "cpu=6");
    assert_eq!(queue.sent(), [(1, Why::NeverFits), (2, Why::Fits)]);
    // Another quota has refused it. It would be sent again at once if it waited.
    let by = refusal("other", "pods=1");
    assert_eq!(queue.is_refused(1, Some(&by)), Err(NeverFits));
    assert_eq!(queue.queue.len(), 1);
}

#[test]
fn all_quotas_must_have_room() {
    let mut queue = Fixture::new("pods=5", "pods=5");
    queue
        .queue
        .changed("other".into(), limits("cpu=2", "cpu=2"));
    queue.enter(1, "pods=1");
    queue.used("pods=5", "pods=4");
    assert_eq!(queue.woken(), [1]);
    queue.refused(1, "other", "cpu=1");
    assert_eq!(queue.woken(), NOBODY, "the other quota is full");
    queue
        .queue
        .changed("other".into(), limits("cpu=2", "cpu=1"));
    assert_eq!(queue.woken(), [1]);
}

#[test]
fn a_change_of_the_limits_wakes_too() {
    let raised = |queue: &mut Fixture| queue.used("pods=2", "pods=1");
    let deleted = |queue: &mut Fixture| queue.queue.gone("q");
    let no_longer_named = |queue: &mut Fixture| queue.used("cpu=1", "cpu=1");
    let listed_without_it = |queue: &mut Fixture| queue.queue.list(Vec::new());
    type Change = fn(&mut Fixture);
    let rows: [(&str, Change); 4] = [
        ("raised", raised),
        ("deleted", deleted),
        ("no longer named", no_longer_named),
        ("gone while the watch was broken", listed_without_it),
    ];
    for (name, change) in rows {
        let mut queue = Fixture::new("pods=1", "pods=1");
        queue.enter(1, "pods=1");
        assert_eq!(queue.woken(), NOBODY, "{name}");
        change(&mut queue);
        assert_eq!(queue.woken(), [1], "{name}");
    }
}

#[test]
fn a_bounded_number_is_woken_at_a_time() {
    let deleted = |queue: &mut Fixture| queue.queue.gone("q");
    let lowered = |queue: &mut Fixture| queue.used("pods=0", "pods=1");
    type Change = fn(&mut Fixture);
    let rows: [(Change, _); 2] = [(deleted, Why::Fits), (lowered, Why::NeverFits)];
    for (change, expected) in rows {
        let mut queue = Fixture::new("pods=1", "pods=1");
        (0..200).for_each(|id| queue.enter(id, "pods=1"));
        change(&mut queue);
        let most = MAX_WOKEN as u64;
        let first: Vec<_> = (0..most).map(|id| (id, expected)).collect();
        assert_eq!(queue.sent(), first);
        assert_eq!(queue.sent(), [], "{expected:?}");
        queue.created(0);
        assert_eq!(queue.sent(), [(most, expected)]);
    }
}

/// The quota is gone by the watch, but not yet by the cache of quota admission.
#[test]
fn a_deleted_quota_that_still_refuses_is_not_asked_at_once() {
    let mut queue = Fixture::new("pods=1", "pods=1");
    queue.enter(1, "pods=1");
    queue.queue.gone("q");
    for pause in [FIRST_PAUSE, FIRST_PAUSE * 2] {
        assert_eq!(queue.woken(), [1]);
        queue.refused(1, "q", "pods=1");
        assert_eq!(queue.woken(), NOBODY);
        let (_, next) = queue.queue.advance(queue.now);
        assert_eq!(next, Some(queue.now + pause));
        // That it comes and goes changes nothing.
        queue.used("pods=1", "pods=0");
        assert_eq!(queue.woken(), NOBODY);
        queue.queue.gone("q");
        queue.now += pause;
    }
    assert_eq!(queue.woken(), [1]);
}

#[test]
fn nothing_is_woken_while_a_quota_is_not_counted() {
    let mut queue = Fixture::new("pods=1", "pods=1");
    queue.enter(1, "pods=1");
    // The quota is renamed: a new one comes without a status, then the old one goes.
    let uncounted = Limits {
        hard: amounts("pods=1"),
        ..Limits::default()
    };
    queue.queue.changed("renamed".into(), uncounted);
    queue.queue.gone("q");
    queue.now += ANYWAY_AFTER;
    assert_eq!(queue.woken(), NOBODY);
    queue
        .queue
        .changed("renamed".into(), limits("pods=1", "pods=0"));
    assert_eq!(queue.woken(), [1]);
}

#[test]
fn amounts_that_make_no_sense_wake_nobody() {
    every(
        [
            ("pods=5", "pods=9", "pods=1"),
            ("pods=5", "", "pods=1"),
            ("pods=0", "pods=0", "pods=0"),
            ("memory=1Gi", "memory=1024Mi", "memory=1n"),
            ("memory=7Ei", "memory=6Ei", "memory=2Ei"),
        ],
        |(hard, used, asked)| {
            let mut queue = Fixture::new(hard, used);
            queue.queue.enter(queue.ticket(1), true);
            if asked == "pods=0" {
                assert_eq!(queue.is_refused(1, None), Ok(()));
            } else {
                queue.refused(1, "q", asked);
            }
            assert_eq!(queue.woken(), NOBODY);
        },
    );
}

#[test]
fn the_oldest_is_sent_anyway_when_nothing_was_for_long() {
    let mut queue = Fixture::new("pods=1", "pods=1");
    queue.enter(1, "pods=1");
    queue.enter(2, "pods=1");
    let (_, next) = queue.queue.advance(queue.now);
    assert_eq!(next, Some(queue.now + ANYWAY_AFTER));
    queue.now += ANYWAY_AFTER;
    assert_eq!(queue.sent(), [(1, Why::Anyway)]);
    queue.refused(1, "q", "pods=1");
    assert_eq!(queue.woken(), NOBODY);
    queue.now += ANYWAY_AFTER;
    assert_eq!(queue.sent(), [(1, Why::Anyway)]);
}

#[test]
fn who_cannot_be_woken_polls() {
    let mut queue = Fixture::new("pods=1", "pods=1");
    queue.enter(1, "pods=1");
    assert_eq!(queue.standing(1), Standing::Waits);
    // A quota of the whole cluster is not among those of the namespace.
    queue.queue.enter(queue.ticket(2), true);
    queue.refused(2, "cluster", "pods=1");
    assert_eq!(queue.standing(2), Standing::Polls);
    queue.queue.enter(queue.ticket(3), true);
    assert_eq!(queue.is_refused(3, None), Ok(()));
    assert_eq!(queue.standing(3), Standing::Polls);
    queue.queue.enter(queue.ticket(4), false);
    queue.refused(4, "q", "pods=1");
    assert_eq!(queue.standing(4), Standing::Polls);
    // It has only just been made.
    queue
        .queue
        .changed("cluster".into(), limits("pods=1", "pods=1"));
    let (changed, _) = queue.queue.advance(queue.now);
    assert_eq!(changed, [queue.ticket(2)]);
    assert_eq!(queue.standing(2), Standing::Waits);
    queue.queue.lost();
    let (changed, _) = queue.queue.advance(queue.now);
    assert_eq!(changed, [queue.ticket(1), queue.ticket(2)]);
    assert_eq!(queue.standing(1), Standing::Polls);
    let now_full = ("cluster".into(), limits("pods=1", "pods=1"));
    let listed = vec![("q".into(), limits("pods=2", "pods=1")), now_full];
    queue.queue.list(listed);
    assert_eq!(queue.woken(), [1]);
}

#[test]
fn nobody_polls_before_the_first_list() {
    let mut queue = Fixture::new("pods=1", "pods=0");
    queue.queue = Queue::default();
    queue.queue.starts();
    queue.enter(1, "pods=1");
    queue.queue.enter(queue.ticket(2), true);
    queue.refused(2, "cluster", "pods=1");
    assert_eq!(queue.woken(), NOBODY);
    assert_eq!(queue.standing(2), Standing::Waits);
    queue
        .queue
        .list(vec![("q".into(), limits("pods=1", "pods=0"))]);
    assert_eq!(queue.woken(), [1]);
    assert_eq!(queue.standing(2), Standing::Polls);
}
