//! Judges a run by its plan and by what the servers and the clients saw.

use std::time::Duration;

use super::plan::{Again, Event, Limits, Reply, Run};
use super::server::{Arrived, padded};
use super::{Answer, CONNECT_TIMEOUT, End, History, body};
use crate::config::Mode;
use crate::decisions::Decision;
use crate::drain::Stage;
use crate::error::ProxyError;
use crate::route::timeout::GRACE;

/// The clock of tokio has whole milliseconds, and several timers may follow one another.
const TICKS: Duration = Duration::from_millis(10);

/// How long a create waits at most until its namespace moves to another server.
const MOVE_WITHIN: Duration = Duration::from_secs(1);

pub(super) fn judge(run: &Run, history: &History) {
    for (what, left) in &history.left {
        assert_eq!(*left, 0, "{what} remain at the end");
    }
    assert!(history.most_held <= run.max_held as usize);
    assert!(
        history.most_buffered <= run.max_buffered,
        "{} of {} bytes are used",
        history.most_buffered,
        run.max_buffered
    );
    let mut ended = 0;
    for index in 0..run.creates.len() {
        let create = Create::of(run, history, index);
        create.is_sent_only_as_it_came();
        create.is_sent_again_only_as_its_answers_allow();
        create.ends_with_its_last_answer();
        ended += u64::from(create.counts());
    }
    assert_eq!(history.outcomes, ended, "each create is counted once");
    budgets(run, history);
}

/// What happened to one create.
struct Create<'a> {
    run: &'a Run,
    history: &'a History,
    index: usize,
    /// The settings when it arrived.
    limits: Limits,
    arrived: Vec<&'a Arrived>,
    end: &'a End,
    /// None: it was streamed.
    decision: Option<&'a Decision>,
}

impl<'a> Create<'a> {
    fn of(run: &'a Run, history: &'a History, index: usize) -> Create<'a> {
        let name = format!("p-{index}");
        let at = run.creates[index].at;
        let reloads = run.events.iter().filter(|(time, _)| *time < at);
        let mut limits = reloads.filter_map(|(_, event)| match event {
            Event::Reload(limits) => Some(*limits),
            _ => None,
        });
        let mut decisions = history.decisions.iter().filter(|each| *each.name == *name);
        let decision = decisions.next();
        assert!(decisions.next().is_none(), "{name} is recorded twice");
        Create {
            run,
            history,
            index,
            limits: limits.next_back().unwrap_or(run.limits),
            arrived: history
                .arrived
                .iter()
                .filter(|each| each.create == index)
                .collect(),
            end: &history.ends[index],
            decision,
        }
    }

    fn at(&self) -> tokio::time::Instant {
        self.history.begun + Duration::from_millis(self.run.creates[self.index].at)
    }

    fn is_sent_only_as_it_came(&self) {
        let plan = &self.run.creates[self.index];
        for (attempt, arrived) in self.arrived.iter().enumerate() {
            assert_eq!(
                arrived.body,
                body(self.index, plan.size),
                "its body changed"
            );
            assert_eq!(arrived.timeout.is_some(), plan.timeout.is_some());
            if let (Some(sent), Some(asked)) = (arrived.timeout, plan.timeout) {
                let spent = arrived.at - self.at();
                let left = asked.saturating_sub(spent).max(Duration::from_millis(1));
                assert!(sent <= asked, "it asks for more time than its client");
                // An attempt that waits for a connection was asked for before.
                assert!(
                    sent <= left + self.slack() || attempt == 0,
                    "attempt {attempt} asks for {sent:?} of {left:?}"
                );
            }
        }
    }

    fn is_sent_again_only_as_its_answers_allow(&self) {
        let streamed = self.decision.is_none();
        // How many attempts were made when the last wait for a full quota ended, and when.
        let mut since_quota = (0, self.at());
        for (attempt, two) in self.arrived.windows(2).enumerate() {
            let (before, after) = (two[0], two[1]);
            let again = before.reply.again(self.run.http2);
            let allowed = match again {
                Again::Never => false,
                Again::Yes | Again::Elsewhere => true,
                Again::OptIn => self.limits.opt_ins,
            };
            assert!(allowed, "it was sent again after {:?}", before.reply);
            assert!(
                !streamed && self.limits.mode == Mode::Enforce,
                "it was not to be replayed"
            );
            let answered = match before.reply {
                Reply::Refused => before.at,
                _ => before
                    .answered
                    .expect("the attempt before was answered to its end"),
            };
            let pause = match again {
                Again::Elsewhere if self.run.servers > 1 => Duration::ZERO,
                _ => before.reply.retry_after(),
            };
            assert!(after.at >= answered + pause, "it was sent again too early");
            let waited_for_quota = before.reply.is_full_quota();
            let (earlier, since) = if waited_for_quota {
                (0, self.at())
            } else {
                since_quota
            };
            // An attempt that no server saw may lie between them, with the ordinary limits.
            let most = self
                .limits
                .most_attempts(again)
                .max(self.limits.max_attempts);
            let made = attempt + 1 - earlier;
            assert!(made < most as usize, "{} attempts, {most}", made + 1);
            let hold = self.limits.longest_hold(again).max(self.limits.max_hold);
            let latest = since + hold + self.slack();
            assert!(after.at <= latest, "{:?} late", after.at - latest);
            if waited_for_quota {
                since_quota = (attempt + 1, after.at);
            }
            for (time, event) in &self.run.events {
                let released = matches!(event, Event::Drain(stage) if *stage >= Stage::Releasing);
                let time = self.history.begun + Duration::from_millis(*time);
                assert!(
                    !released || time + self.slack() >= after.at || answered > time,
                    "it was held after the grace of the drain"
                );
            }
        }
    }

    /// How long after its start an attempt may reach a server: at each server it waits until its
    /// namespace may move there, and for a connection that nobody answers.
    fn slack(&self) -> Duration {
        let silent = self
            .run
            .events
            .iter()
            .any(|(_, event)| matches!(event, Event::Down { silent: true, .. }));
        let servers = self.run.servers as u32;
        let dials = if silent { servers + 1 } else { 0 };
        let moves = if servers > 1 { servers } else { 0 };
        MOVE_WITHIN * moves + CONNECT_TIMEOUT * dials + TICKS
    }

    fn ends_with_its_last_answer(&self) {
        let plan = &self.run.creates[self.index];
        if let Some(timeout) = plan.timeout {
            let latest = self.at() + timeout + GRACE + TICKS;
            assert!(self.end.at <= latest, "{:?} late", self.end.at - latest);
        }
        let last_attempt = self.decision.and_then(|decision| decision.attempts.last());
        match &self.end.answer {
            Answer::Left => assert!(self.end.at >= self.at() + plan.patience),
            Answer::Error(ProxyError::RateLimited(_)) => {
                assert!(
                    self.arrived.is_empty(),
                    "a create that was turned away was sent"
                );
                assert!(self.limits.rate.is_some());
            }
            Answer::Error(_) => {
                assert!(last_attempt.is_none_or(|attempt| attempt.answer.is_err()));
            }
            Answer::Whole(status, body) => {
                assert!(last_attempt.is_none_or(|attempt| attempt.answer.is_ok()));
                let last = self.arrived.last().expect("only a server answers");
                let (row, expected) = match last.reply {
                    Reply::Answer(row, _) => (row, Some(row.body())),
                    // It streams to a client whose server may break in the same instant.
                    Reply::Large(row) if body.is_none() => {
                        assert!(self.breaks_at(last.answered));
                        (row, None)
                    }
                    Reply::Large(row) => (row, Some(padded(row.body()))),
                    // Only what is streamed shows its end to the client.
                    Reply::Truncated(row) => (row, None),
                    other => panic!("{other:?} is no answer, and the client got {status}"),
                };
                assert_eq!(status.as_u16(), row.code);
                assert_eq!(body.as_deref(), expected.as_deref().map(str::as_bytes));
                let is_truncated = matches!(last.reply, Reply::Truncated(_));
                assert!(!is_truncated || self.decision.is_none());
            }
        }
    }

    /// Whether a server broke at this time.
    fn breaks_at(&self, at: Option<tokio::time::Instant>) -> bool {
        self.run.events.iter().any(|(time, event)| {
            let breaks = matches!(event, Event::Down { silent: false, .. });
            breaks && Some(self.history.begun + Duration::from_millis(*time)) == at
        })
    }

    /// Whether its outcome is counted. One that its client leaves before it is known whether it can
    /// be replayed is no outcome of the loop.
    fn counts(&self) -> bool {
        self.decision.is_some() || !matches!(self.end.answer, Answer::Left)
    }
}

/// Without a reload, replays that are not free cost no more than the budget.
fn budgets(run: &Run, history: &History) {
    let reloaded = run
        .events
        .iter()
        .any(|(_, event)| matches!(event, Event::Reload(_)));
    if reloaded || run.limits.budget_per_second > 0 {
        return;
    }
    // Two kinds, and a create that is refused in between counts for both.
    let most = 2.0 * run.limits.budget_ratio * run.creates.len() as f64;
    let free = if run.servers > 1 { history.replays } else { 0 };
    assert!(
        (history.replays - free) as f64 <= most,
        "{} replays of {most}",
        history.replays
    );
}
