//! What an audit log told, as a table for people and as JSON for programs.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::super::printable;
use super::super::super::status::{sparkline, table};
use super::Log;
use super::tally::{Counts, Row};
use crate::config::Mode;
use crate::snapshot::words::{bytes, counted, number};
use crate::verdict::Class;

/// Rows of the table, unless `--top` is given.
const ROWS: usize = 20;
/// The points of the charts.
const POINTS: usize = 60;

/// The counts of a log, ready to be printed.
pub(super) struct Report<'a> {
    log: &'a Log,
    total: Counts,
    rows: Vec<&'a Row>,
}

impl<'a> Report<'a> {
    pub(super) fn new(log: &'a Log) -> Self {
        Self {
            log,
            total: log.tally.total(),
            rows: log.tally.rows(),
        }
    }

    pub(super) fn text(&self, top: Option<usize>) -> String {
        let parts = [self.summary(), self.clients(top), self.notes_in_lines()];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join("\n")
    }

    fn summary(&self) -> String {
        let (log, total) = (self.log, &self.total);
        let share = |part| share(part, total.creates);
        let read = format!(
            "{} in {}, {}",
            counted(log.lines, "line"),
            counted(log.files, "file"),
            bytes(log.bytes)
        );
        let mut rows = vec![vec!["read".to_owned(), read]];
        if let Some((from, to)) = log.tally.span {
            rows.push(vec![
                "creates from".to_owned(),
                format!("{} to {}", clock(from), clock(to)),
            ]);
        }
        let would = match log.tally.judge.mode {
            Mode::Enforce => "the proxy would send again",
            Mode::Off | Mode::Observe => "with mode Enforce, it would send again",
        };
        let counts = [
            ("creates", number(total.creates)),
            ("met a quota conflict", share(total.quota_conflicts)),
            ("were throttled", share(total.throttled)),
            (
                "refused by a server that starts",
                share(total.starting_or_stopping),
            ),
            (would, share(total.would_replay)),
        ];
        rows.extend(counts.map(|(what, value)| vec![what.to_owned(), value]));
        table(&["AUDIT LOG", ""], &rows) + &self.charts()
    }

    /// A chart of each kind of refusal that occurred.
    fn charts(&self) -> String {
        let Some((step, points)) = self.timeline() else {
            return String::new();
        };
        let names = ["quota conflicts", "throttled", "starting"];
        let chart = |(which, name)| {
            let points: Vec<u64> = points.iter().map(|counts| counts[which]).collect();
            let peak = points.iter().copied().max().unwrap_or_default();
            (peak > 0).then(|| {
                let line = sparkline(&points, peak);
                let per = counted(step.unsigned_abs(), "second");
                format!("{line}  {name} per {per}, highest {}\n", number(peak))
            })
        };
        names.into_iter().enumerate().filter_map(chart).collect()
    }

    fn timeline(&self) -> Option<(i64, Vec<[u64; 3]>)> {
        let (from, to) = self.log.tally.span?;
        Some(self.log.tally.timeline.points(from, to, POINTS))
    }

    fn clients(&self, top: Option<usize>) -> String {
        let met: Vec<_> = self.rows.iter().filter(|row| row.counts.any()).collect();
        let shown = top.unwrap_or(ROWS);
        let row = |row: &&&Row| {
            let counts = &row.counts;
            let numbers = [
                counts.creates,
                counts.quota_conflicts,
                counts.throttled,
                counts.starting_or_stopping,
                counts.would_replay,
            ];
            [&row.namespace, &resource(row), &row.user_agent]
                .map(|name| printable(name))
                .into_iter()
                .chain(numbers.map(number))
                .collect()
        };
        let rows: Vec<_> = met.iter().take(shown).map(row).collect();
        let mut text = table(
            &[
                "NAMESPACE",
                "RESOURCE",
                "USER AGENT",
                "CREATES",
                "QUOTA CONFLICTS",
                "THROTTLED",
                "STARTING",
                "WOULD REPLAY",
            ],
            &rows,
        );
        if met.len() > shown {
            text += &format!("and {} more\n", number((met.len() - shown) as u64));
        }
        text
    }

    fn notes_in_lines(&self) -> String {
        let notes = self.notes();
        notes.into_iter().map(|note| note + "\n").collect()
    }

    /// What the counts do not show.
    fn notes(&self) -> Vec<String> {
        let (tally, total) = (&self.log.tally, &self.total);
        let mut notes = Vec::new();
        if total.creates == 0 {
            notes.push(self.why_no_create());
        } else if !self.rows.iter().any(|row| row.resource == "pods") {
            notes.push(
                "The log has no create of a pod. If clients create pods here, the audit policy \
                does not record them."
                    .into(),
            );
        }
        if total.creates > 0 && tally.missing > 0 {
            notes.push(format!(
                "Creates that are logged without their answer, and not counted: {}.",
                number(tally.missing)
            ));
        }
        if tally.relayed > 0 {
            notes.push(format!(
                "The proxy would not send {} of these creates again: `creates` of its \
                configuration does not match them, or they are patches that may be no server-side \
                applies.",
                number(tally.relayed)
            ));
        }
        if total.creates > 0 {
            notes.push(
                "An apiserver that shuts down refuses creates before it logs them: no audit log \
                has those."
                    .into(),
            );
        }
        match tally.judge.mode {
            Mode::Off => {
                notes.push("The proxy would send none of these again: mode is Off.".into())
            }
            Mode::Observe => notes.push(
                "The proxy would send none of these again, only count them: mode is Observe."
                    .into(),
            ),
            Mode::Enforce => {}
        }
        if total.would_replay > 0 {
            notes.push(
                "A replay can meet the same answer again. The proxy repeats it within its limits."
                    .into(),
            );
        }
        let skipped = self.log.skipped.iter().map(|(problem, skipped)| {
            let first = printable(&skipped.first);
            let problem = printable(&problem.in_words());
            match skipped.count {
                1 => format!("Skipped: {first} {problem}."),
                more => format!(
                    "Skipped {} lines, the first of which {problem}: {first}.",
                    number(more)
                ),
            }
        });
        notes.extend(skipped);
        notes
    }

    fn why_no_create(&self) -> String {
        let tally = &self.log.tally;
        let why = if self.log.lines == 0 {
            "The log is empty."
        } else if tally.missing > 0 {
            "The events of creates in the log have no responseStatus, so the answers are not known."
        } else if tally.pending > 0 {
            "The log has creates only at the stage RequestReceived, which comes before the answer. \
            The audit policy must not omit the stage ResponseComplete."
        } else {
            "The log has no create of a namespaced object. Either there was none, or the audit \
            policy does not record them: it needs the level Metadata for the verbs create and patch."
        };
        why.to_owned()
    }

    pub(super) fn json(&self, top: Option<usize>) -> String {
        let log = self.log;
        let rows = self.rows.iter().take(top.unwrap_or(usize::MAX)).map(|row| {
            let mut object = json!({
                "namespace": row.namespace,
                "group": row.group,
                "resource": row.resource,
                "verb": row.verb,
                "userAgent": row.user_agent,
            });
            merge(&mut object, counts(&row.counts));
            object
        });
        let answers: Map<_, _> = Class::ALL
            .iter()
            .filter_map(|class| {
                let count = log.tally.answers.get(class)?;
                Some((class.as_str().to_owned(), (*count).into()))
            })
            .collect();
        let skipped = log.skipped.iter().map(|(problem, skipped)| {
            json!({
                "problem": problem.in_words(),
                "count": skipped.count,
                "first": skipped.first,
            })
        });
        let timeline = self.timeline().map(|(step, points)| {
            let of = |which: usize| {
                points
                    .iter()
                    .map(|counts| counts[which])
                    .collect::<Vec<_>>()
            };
            json!({
                "stepSeconds": step,
                "quotaConflicts": of(0),
                "throttled": of(1),
                "startingOrStopping": of(2),
            })
        });
        let mut report = json!({
            "files": log.files,
            "bytes": log.bytes,
            "lines": log.lines,
            "from": log.tally.span.map(|(from, _)| rfc3339(from)),
            "to": log.tally.span.map(|(_, to)| rfc3339(to)),
            "answers": answers,
            "timeline": timeline,
            "rows": rows.collect::<Vec<_>>(),
            "skipped": skipped.collect::<Vec<_>>(),
            "notes": self.notes(),
        });
        merge(&mut report, counts(&self.total));
        format!("{report:#}")
    }
}

/// `494 (22.9 %)`, rounded.
pub(super) fn share(part: u64, all: u64) -> String {
    let (of, all) = (u128::from(part), u128::from(all));
    let permille = (of * 2000 + all).checked_div(2 * all);
    match permille {
        Some(0) if part > 0 => format!("{} (< 0.1 %)", number(part)),
        Some(permille) if part > 0 => {
            format!("{} ({}.{} %)", number(part), permille / 10, permille % 10)
        }
        _ => number(part),
    }
}

fn counts(counts: &Counts) -> Value {
    json!({
        "creates": counts.creates,
        "quotaConflicts": counts.quota_conflicts,
        "throttled": counts.throttled,
        "startingOrStopping": counts.starting_or_stopping,
        "wouldReplay": counts.would_replay,
    })
}

fn merge(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

/// As kubectl names it: `jobs.batch`.
fn resource(row: &Row) -> String {
    let dot = if row.group.is_empty() { "" } else { "." };
    let patch = if row.verb == "patch" { " (patch)" } else { "" };
    format!("{}{dot}{}{patch}", row.resource, row.group)
}

fn rfc3339(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// For people: `2026-01-02 03:04:05`.
fn clock(seconds: i64) -> String {
    rfc3339(seconds).replace('T', " ").replace('Z', " UTC")
}
