//! A storm of creates: a fixed number in flight, and a new one as soon as one is answered. The
//! storm records what the clients saw.
//!
//! `demo` and the benchmarks send the same storm, so that their runs differ only in the addresses
//! and in how the client retries. This module uses sockets and judges answers, but does not know
//! the model: [`StormResult::check`] gets the stored pods from its caller.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::client::{Answer, Client, ClientError, Endpoint};
use super::create_result::CreateResult;

/// The load and its destination.
#[derive(Clone)]
pub struct Storm {
    /// The servers. The creates of each namespace go to them in turn.
    pub servers: Vec<Endpoint>,
    /// The namespaces, over which the pods are distributed evenly.
    pub namespaces: Vec<String>,
    /// The total number of pods to create.
    pub pods: usize,
    /// The number of creates in flight at the same time.
    pub in_flight: usize,
    /// How a client retries quota conflicts.
    pub retry: Retry,
    /// Delete every created pod, at most this many a second. `None` deletes nothing.
    pub deletes_per_second: Option<u32>,
}

/// `retry.RetryOnConflict` of client-go with its `wait.Backoff`.
///
/// <https://github.com/kubernetes/client-go/blob/v0.32.0/util/retry/util.go#L29-L48>
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// Total attempts, including the first.
    pub steps: u32,
    /// The first pause.
    pub pause: Duration,
    /// The factor between one pause and the next.
    pub factor: u32,
    /// The largest part of a pause that is added to it at random.
    pub jitter: f64,
}

impl Retry {
    /// No retries: the first answer is final.
    pub const NONE: Retry = Retry {
        steps: 1,
        pause: Duration::ZERO,
        factor: 1,
        jitter: 0.0,
    };
    /// `retry.DefaultRetry`.
    pub const DEFAULT_RETRY: Retry = Retry {
        steps: 5,
        pause: Duration::from_millis(10),
        factor: 1,
        jitter: 0.1,
    };
    /// `retry.DefaultBackoff`.
    pub const DEFAULT_BACKOFF: Retry = Retry {
        steps: 4,
        pause: Duration::from_millis(10),
        factor: 5,
        jitter: 0.1,
    };
}

/// One create with its result, as its client saw it.
#[derive(Clone, Debug)]
pub struct Create {
    /// The namespace of the pod.
    pub namespace: String,
    /// The name of the pod.
    pub name: String,
    /// The status code of the last answer. `None` if the connection failed.
    pub status: Option<StatusCode>,
    /// The meaning of the last answer.
    pub result: CreateResult,
    /// The number of attempts by the client.
    pub attempts: u32,
    /// The number of quota conflicts that the client got.
    pub conflicts: u32,
    /// The time from the first attempt to the last answer, including pauses.
    pub took: Duration,
}

impl Create {
    /// Whether the client was result that the pod exists now.
    pub fn succeeded(&self) -> bool {
        self.status == Some(StatusCode::CREATED)
    }
}

/// The results of a finished storm.
#[derive(Clone, Debug)]
pub struct StormResult {
    /// Every create, in no particular order.
    pub creates: Vec<Create>,
    /// The time from the first create to the last answer.
    pub elapsed: Duration,
    /// Namespace and name of each pod that the storm deleted or tried to delete.
    pub deleted: HashSet<(String, String)>,
}

/// Why a storm could not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum StormError {
    /// A server could not be reached at the start of the storm.
    #[error("a client cannot connect")]
    Connect(#[from] ClientError),
    /// A client panicked.
    #[error("a client stopped early")]
    Client(#[from] JoinError),
}

/// A disagreement between the answers and the store.
#[derive(Debug, thiserror::Error)]
pub enum Mismatch {
    /// A create succeeded, but its pod is not stored.
    #[error("the create of the pod {0:?} succeeded, but the pod is not stored")]
    Lost(String),
    /// A create was refused, but its pod is stored.
    #[error("the create of the pod {0:?} was refused, but the pod is stored")]
    Refused(String),
}

impl Storm {
    /// Opens all connections, sends the storm, and calls `answered` for each finished create.
    ///
    /// # Errors
    ///
    /// If a server cannot be reached at the start. Later, a create without an answer is a result
    /// like any other.
    pub async fn run(
        &self,
        answered: impl Fn(&Create) + Clone + Send + 'static,
    ) -> Result<StormResult, StormError> {
        let (created, to_delete) = mpsc::unbounded_channel();
        let mut deleter = JoinSet::new();
        if let Some(rate) = self.deletes_per_second {
            deleter.spawn(delete(self.connect().await?, rate, to_delete));
        }
        let next = Arc::new(AtomicUsize::new(0));
        let storm = Arc::new(self.clone());
        let mut ready = Vec::new();
        for _ in 0..self.in_flight.min(self.pods) {
            ready.push((
                self.connect().await?,
                next.clone(),
                storm.clone(),
                created.clone(),
                answered.clone(),
            ));
        }
        let start = Instant::now();
        let mut clients = JoinSet::new();
        for (mut connections, next, storm, created, answered) in ready {
            clients.spawn(async move {
                let mut creates = Vec::new();
                loop {
                    let pod = next.fetch_add(1, Ordering::Relaxed);
                    if pod >= storm.pods {
                        return creates;
                    }
                    let create = storm.create(pod, &mut connections).await;
                    answered(&create);
                    if create.succeeded() && storm.deletes_per_second.is_some() {
                        let _ended = created.send((create.namespace.clone(), create.name.clone()));
                    }
                    creates.push(create);
                }
            });
        }
        let mut creates = Vec::with_capacity(self.pods);
        while let Some(client) = clients.join_next().await {
            creates.extend(client?);
        }
        let elapsed = start.elapsed();
        // Deletions only race with creates, so they end together with them.
        drop(created);
        let deleted = deleter.join_next().await.transpose()?.unwrap_or_default();
        Ok(StormResult {
            creates,
            elapsed,
            deleted,
        })
    }

    /// Opens a connection to each server.
    async fn connect(&self) -> Result<Vec<Connection>, ClientError> {
        let mut connections = Vec::with_capacity(self.servers.len());
        for endpoint in &self.servers {
            connections.push(Connection {
                open: Some(endpoint.connect().await?),
                endpoint: endpoint.clone(),
            });
        }
        Ok(connections)
    }

    async fn create(&self, pod: usize, connections: &mut [Connection]) -> Create {
        let (round, namespace) = (pod / self.namespaces.len(), pod % self.namespaces.len());
        // Neighbouring namespaces begin at different servers. A retry goes to the same server, as
        // it does over a connection that stays open.
        let server = (round + namespace) % connections.len();
        let connection = &mut connections[server];
        let namespace = self.namespaces[namespace].clone();
        let name = format!("pod-{pod}");
        let start = Instant::now();
        let (mut attempts, mut conflicts, mut pause) = (0, 0, self.retry.pause);
        loop {
            attempts += 1;
            let (status, result) = match connection.create_pod(&namespace, &name).await {
                Some(answer) => (
                    Some(answer.status),
                    CreateResult::of(answer.status, &answer.body),
                ),
                None => (None, CreateResult::NoAnswer),
            };
            conflicts += u32::from(result == CreateResult::QuotaConflict);
            if result != CreateResult::QuotaConflict || attempts >= self.retry.steps {
                return Create {
                    namespace,
                    name,
                    status,
                    result,
                    attempts,
                    conflicts,
                    took: start.elapsed(),
                };
            }
            sleep(pause.mul_f64(1.0 + self.retry.jitter * fastrand::f64())).await;
            pause *= self.retry.factor;
        }
    }
}

impl StormResult {
    /// The time within which a share `part` (0 to 1) of the creates finished.
    pub fn quantile(&self, part: f64) -> Duration {
        let mut times: Vec<Duration> = self.creates.iter().map(|create| create.took).collect();
        times.sort_unstable();
        let index = ((times.len() as f64 * part).ceil() as usize).saturating_sub(1);
        times.get(index).copied().unwrap_or_default()
    }

    /// The number of creates that did not succeed.
    pub fn failed(&self) -> usize {
        self.creates
            .iter()
            .filter(|create| !create.succeeded())
            .count()
    }

    /// Compares the results that clients saw with the stored pods, given by namespace and name.
    ///
    /// # Errors
    ///
    /// The first pod that is missing after a successful create, or stored after a refused one.
    pub fn check(&self, there: &HashSet<(String, String)>) -> Result<(), Mismatch> {
        for create in &self.creates {
            let key = (create.namespace.clone(), create.name.clone());
            match (create.succeeded(), there.contains(&key)) {
                (true, false) if !self.deleted.contains(&key) => return Err(Mismatch::Lost(key.1)),
                (false, true) if create.status.is_some() => return Err(Mismatch::Refused(key.1)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A connection that opens at its first use and reopens after a failure.
pub struct Connection {
    endpoint: Endpoint,
    open: Option<Client>,
}

impl Connection {
    /// A connection to this server, not open yet.
    pub fn new(endpoint: Endpoint) -> Connection {
        Connection {
            endpoint,
            open: None,
        }
    }

    /// [`Client::create_pod`]. `None` if there is no answer.
    pub async fn create_pod(&mut self, namespace: &str, name: &str) -> Option<Answer> {
        let mut client = self.take().await?;
        let answer = client.create_pod(namespace, name).await.ok()?;
        self.open = Some(client);
        Some(answer)
    }

    async fn delete(&mut self, path: &str) -> Option<Answer> {
        let mut client = self.take().await?;
        let answer = client.send(Method::DELETE, path, "").await.ok()?;
        self.open = Some(client);
        Some(answer)
    }

    async fn take(&mut self) -> Option<Client> {
        match self.open.take() {
            Some(open) => Some(open),
            None => self.endpoint.connect().await.ok(),
        }
    }
}

/// Deletes created pods over each server in turn, until the storm ends.
async fn delete(
    mut connections: Vec<Connection>,
    rate: u32,
    mut created: mpsc::UnboundedReceiver<(String, String)>,
) -> HashSet<(String, String)> {
    let mut ticks = interval(Duration::from_secs(1) / rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut deleted = HashSet::new();
    while let Some((namespace, name)) = created.recv().await {
        if created.is_closed() {
            break;
        }
        ticks.tick().await;
        let server = deleted.len() % connections.len();
        connections[server]
            .delete(&format!("/api/v1/namespaces/{namespace}/pods/{name}"))
            .await;
        deleted.insert((namespace, name));
    }
    deleted
}

#[cfg(test)]
mod tests;
