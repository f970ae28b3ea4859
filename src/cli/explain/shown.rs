//! How an explanation is printed for people.

use std::fmt;
use std::time::Duration;

use super::super::printable;
use super::{Explanation, Source};
use crate::config::Mode;
use crate::verdict::{Class, IfAbsent, Verdict};

/// A duration as Debug prints it, with `0s` instead of `0ns`.
fn readable(duration: Duration) -> String {
    if duration.is_zero() {
        "0s".to_owned()
    } else {
        format!("{duration:?}")
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (of_code, of_body) = self.source.in_words();
        writeln!(f, "code      {}{of_code}", self.code)?;
        match &self.status {
            Some((status, encoding)) => {
                match of_body {
                    Some(words) => writeln!(f, "body      a metav1.Status {words}")?,
                    None => writeln!(f, "body      a metav1.Status in {}", encoding.media_type())?,
                }
                writeln!(f, "message   {}", printable(&status.message))?;
            }
            None => writeln!(f, "body      not a metav1.Status")?,
        }
        if let Some(place) = &self.broken_off {
            writeln!(f, "note      the capture breaks off {place}")?;
        }
        if !self.others.is_empty() {
            writeln!(f, "note      {}", self.others_in_words())?;
        }
        if self.compressed {
            writeln!(
                f,
                "note      the body is compressed; the proxy does not read it and relays the answer"
            )?;
        }
        if self.cut {
            writeln!(f, "note      only the first 64 MiB were read")?;
        }
        if let Some(request) = &self.request {
            let uri = printable(&request.uri.to_string());
            writeln!(f, "request   {} {uri}", request.method)?;
        }
        let class = self.answer.class;
        writeln!(f, "class     {}", class.as_str())?;
        writeln!(f, "why       {}", class.why())?;
        writeln!(f, "safety    {}", class.safety().as_str())?;
        if let Some(wait) = self.answer.retry_after {
            writeln!(f, "asked     to wait {}", readable(wait))?;
        }
        match self.verdict {
            Verdict::Relay => self.fmt_relay(f),
            Verdict::Resolve { if_absent } => {
                let absent = match if_absent {
                    IfAbsent::SendAgain => "if it is absent, the create is sent again",
                    IfAbsent::Relay | IfAbsent::Ambiguous => {
                        "if it is absent, this answer is relayed"
                    }
                };
                writeln!(
                    f,
                    "verdict   resolve: an object with a name is looked up as the caller\n\
                    plan      if it is provably of this create, the client gets 201; {absent}"
                )
            }
            Verdict::Replay {
                on_another_server, ..
            } => {
                let another = if on_another_server {
                    ", on another connection"
                } else {
                    ""
                };
                writeln!(f, "verdict   replay{another}")?;
                self.fmt_plan(f)?;
                if self.of_update && self.answer.class.is_quota_conflict() {
                    writeln!(
                        f,
                        "note      an update of a ResourceQuota itself gives the same message, and \
                        is not replayed"
                    )?;
                }
                Ok(())
            }
        }
    }
}

impl Source {
    /// What to say about the code, and about a Status. Without the latter, the encoding says it.
    fn in_words(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Answer => ("", None),
            Self::Body => (" (from the body: the capture has no status line)", None),
            Self::Json => (
                " (from the Status in the text)",
                Some("in JSON, within a text"),
            ),
            Self::Fabric8 => (
                " (from the Status in the text)",
                Some("as fabric8 prints it"),
            ),
            Self::Message => (
                " (from the message alone: code and reason are inferred)",
                Some("that the message belongs to, inferred"),
            ),
        }
    }
}

impl Explanation {
    /// `1 of 3 messages; also other_conflict (2)`
    fn others_in_words(&self) -> String {
        let mut counts: Vec<(Class, usize)> = Vec::new();
        for class in &self.others {
            match counts.iter_mut().find(|(known, _)| known == class) {
                Some((_, count)) => *count += 1,
                None => counts.push((*class, 1)),
            }
        }
        let also = counts.iter().map(|(class, count)| match count {
            1 => class.as_str().to_owned(),
            count => format!("{} ({count})", class.as_str()),
        });
        let also: Vec<_> = also.collect();
        let total = self.others.len() + 1;
        format!("1 of {total} messages; also {}", also.join(", "))
    }

    fn fmt_relay(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "verdict   relay")?;
        if let Some(why) = &self.why_not {
            return writeln!(f, "note      {why}");
        }
        if self.would != Verdict::Relay {
            return match self.mode {
                Mode::Off => writeln!(f, "plan      none: mode is Off"),
                Mode::Observe => writeln!(f, "plan      counted only: mode is Observe"),
                Mode::Enforce => Ok(()),
            };
        }
        let setting = match self.answer.class {
            Class::ExceededQuota => "exceededQuota",
            Class::QuotaStatusUnknown => "quotaStatusUnknown",
            Class::QuotaEvaluationTimeout => "quotaEvaluationTimeout",
            Class::WebhookUnreachable => "webhookUnreachable",
            class if class.is_ambiguous() => {
                return writeln!(
                    f,
                    "note      looked up, and sent again only if no object was stored, if \
                    replay.ambiguous is Resolve and the object has a name"
                );
            }
            _ => return Ok(()),
        };
        writeln!(f, "note      replayed if replay.{setting}.enabled is true")
    }

    fn fmt_plan(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = match self.timeout {
            Some(timeout) => format!(
                "{}, and within the client's timeout of {}",
                readable(self.max_hold),
                readable(timeout)
            ),
            None => readable(self.max_hold),
        };
        let attempts = self.max_attempts;
        if self.plan.is_empty() {
            return writeln!(
                f,
                "plan      none: {attempts} attempts within {within} leave no room for a replay"
            );
        }
        writeln!(f, "plan      at most {attempts} attempts within {within}")?;
        for pause in &self.plan {
            let range = format!("{} to {}", readable(pause.from), readable(pause.to));
            writeln!(
                f,
                "  replay {:<3} after {range:<20} held at most {}",
                pause.replay,
                readable(pause.held_at_most)
            )?;
        }
        Ok(())
    }
}
