//! Container logs. The test pushes lines, and every follower receives them. There are no timers.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use tokio::sync::{mpsc, watch};

use super::Apiserver;
use super::answer::{self, Answer, Body};
use super::target::Target;

/// The log lines of every pod, by namespace and pod name.
#[derive(Debug, Default)]
pub struct Logs {
    pods: Mutex<HashMap<(String, String), Log>>,
    changed: watch::Sender<()>,
}

#[derive(Clone, Debug, Default)]
struct Log {
    lines: Vec<Bytes>,
    closed: bool,
}

impl Logs {
    /// Appends one line, which followers receive at once.
    pub fn push(&self, namespace: &str, pod: &str, line: &str) {
        self.change(namespace, pod, |log| {
            log.lines.push(format!("{line}\n").into())
        });
    }

    /// Ends the log: followers receive the remaining lines, then the end of the stream.
    pub fn close(&self, namespace: &str, pod: &str) {
        self.change(namespace, pod, |log| log.closed = true);
    }

    fn change(&self, namespace: &str, pod: &str, change: impl FnOnce(&mut Log)) {
        change(
            self.lock()
                .entry((namespace.to_owned(), pod.to_owned()))
                .or_default(),
        );
        self.changed.send_replace(());
    }

    /// The lines after the first `seen` ones, and whether the log has ended.
    fn after(&self, key: &(String, String), seen: usize) -> (Vec<Bytes>, bool) {
        let pods = self.lock();
        let Some(log) = pods.get(key) else {
            return (Vec::new(), false);
        };
        (
            log.lines.get(seen..).unwrap_or_default().to_vec(),
            log.closed,
        )
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Log>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Apiserver {
    /// `GET …/log`. With `follow` it lasts until the log is closed or the client leaves.
    pub(super) fn log(&self, head: &Parts, target: &Target, follow: bool) -> Answer {
        let Target::Object {
            namespace, name, ..
        } = target
        else {
            return self.failure(head, answer::no_such_path());
        };
        if self.store.pod(namespace, name).is_none() {
            return self.failure(head, answer::not_found("pods", name));
        }
        let key = (namespace.clone(), name.clone());
        let body = if follow {
            self.follow(key)
        } else {
            Body::full(self.logs.after(&key, 0).0.concat())
        };
        answer::headed(
            head,
            &self.dice,
            StatusCode::OK,
            HeaderValue::from_static("text/plain"),
            body,
        )
    }

    fn follow(&self, key: (String, String)) -> Body {
        let (lines, body) = mpsc::channel(16);
        let logs = self.logs.clone();
        self.tasks.spawn_until_stop(async move {
            let mut changed = logs.changed.subscribe();
            let mut seen = 0;
            loop {
                let (new, closed) = logs.after(&key, seen);
                seen += new.len();
                for line in new {
                    if lines.send(line).await.is_err() {
                        return;
                    }
                }
                if closed {
                    return;
                }
                tokio::select! {
                    _ = changed.changed() => {}
                    () = lines.closed() => return,
                }
            }
        });
        Body::stream(body)
    }
}
