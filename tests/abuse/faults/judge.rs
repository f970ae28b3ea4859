//! Compares the results of the clients in the random run with the journal of the upstreams.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::client::Sent;
use crate::lab::Lab;
use crate::peers::Answer;

/// Collects the result of each request.
#[derive(Debug, Default)]
pub struct Judge {
    sent: Mutex<Vec<Sent>>,
    unanswered: AtomicUsize,
}

impl Judge {
    pub fn note(&self, sent: Sent) {
        if sent.answer.is_none() {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        self.sent.lock().unwrap().push(sent);
    }

    pub fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// Adds all faults to the lab. Every case also checks that nothing is stored twice.
    pub fn judge(&self, lab: &mut Lab) {
        let sent = self.sent.lock().unwrap();
        let mut found = Found::default();
        let cut_requests = lab.journal.numbers_of_whole_bodies();
        for request in sent.iter() {
            if !request.whole && cut_requests.contains(&request.number) {
                found.add(
                    "requests that their clients broke off arrived as whole",
                    request,
                    "",
                );
            }
            match &request.answer {
                None => found.add("unanswered", request, ""),
                Some(Ok(answer)) => judge_answer(lab, request, answer, &mut found),
                Some(Err(_)) => {}
            }
        }
        let answered = sent
            .iter()
            .filter(|request| matches!(&request.answer, Some(Ok(answer)) if answer.whole))
            .count();
        let created =
            sent.iter().filter(|request| matches!(&request.answer, Some(Ok(answer)) if answer.whole && answer.status == 201)).count();
        let creates = sent
            .iter()
            .filter(|request| request.how.contains("POST"))
            .count();
        lab.note(format!(
            "{} requests, {creates} of them creates, {answered} answered, {created} with 201",
            sent.len()
        ));
        let slowest = sent.iter().max_by_key(|request| request.took);
        lab.note(slowest.map_or_else(String::new, |request| {
            format!(
                "slowest {} ({}) {:?}",
                request.name, request.how, request.took
            )
        }));
        for (what, mut which) in found.0 {
            let count = which.len();
            which.truncate(5);
            lab.require(false, format!("{count} {what}: {}", which.join("; ")));
        }
    }
}

fn judge_answer(lab: &Lab, request: &Sent, answer: &Answer, found: &mut Found) {
    let entry = answer
        .headers
        .get("lab-entry")
        .and_then(|entry| entry.to_str().ok()?.parse::<usize>().ok());
    let Some(entry) = entry else {
        if answer.status < 400 {
            found.add(
                "answers of the proxy's own that say all is well",
                request,
                "",
            );
        }
        return;
    };
    let record = lab.journal.record(entry);
    if answer.whole && !record.ended {
        found.add(
            "answers that the upstream broke off arrived as whole",
            request,
            &answer.status.to_string(),
        );
    }
    let stored = answer.whole && answer.status < 300 && request.waited && record.method != "GET";
    if stored && !lab.journal.is_stored(&request.name) {
        found.add(
            "acknowledged but not stored",
            request,
            &answer.status.to_string(),
        );
    }
}

/// The affected requests for each kind of fault.
#[derive(Default)]
struct Found(HashMap<&'static str, Vec<String>>);

impl Found {
    fn add(&mut self, what: &'static str, request: &Sent, more: &str) {
        self.0
            .entry(what)
            .or_default()
            .push(format!("{} ({}) {more}", request.name, request.how));
    }
}
