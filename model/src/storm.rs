//! A storm of creates: so many in flight, each sent as soon as one before it is answered, and what
//! their clients saw.
//!
//! `demo` and the benchmarks send the same storm, so that what they compare differs only in the
//! addresses and in how the client retries. It knows sockets and answers, not the model:
//! [`Ended::check`] takes what is really there from whoever can read it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::client::{Answer, Client, ClientError, Endpoint};
use super::told::Told;

/// What is sent, and where.
#[derive(Clone)]
pub struct Storm {
    /// The creates of each namespace go to these in turn.
    pub servers: Vec<Endpoint>,
    /// The pods are spread over them evenly.
    pub namespaces: Vec<String>,
    /// How many pods are created altogether.
    pub pods: usize,
    /// How many creates are in flight at the same time.
    pub in_flight: usize,
    /// What a client does about a quota conflict.
    pub retry: Retry,
    /// Delete every pod again once it is created, at most so many a second. None: let them stand.
    pub deletes_per_second: Option<u32>,
}

/// `retry.RetryOnConflict` of client-go with its `wait.Backoff`.
///
/// <https://github.com/kubernetes/client-go/blob/v0.32.0/util/retry/util.go#L29-L48>
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// Attempts altogether, the first included.
    pub steps: u32,
    /// The first pause.
    pub pause: Duration,
    /// What each pause is multiplied by for the next.
    pub factor: u32,
    /// Each pause is drawn evenly from itself to itself and this part more.
    pub jitter: f64,
}

impl Retry {
    /// The first answer is final.
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

/// One create, as its client saw it end.
#[derive(Clone, Debug)]
pub struct Create {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The code of the last answer; None if the connection broke.
    pub status: Option<StatusCode>,
    /// What the last answer told the client.
    pub told: Told,
    /// How often the client sent it.
    pub attempts: u32,
    /// How often the client was answered with a quota conflict.
    pub conflicts: u32,
    /// From the first attempt to the last answer, pauses included.
    pub took: Duration,
}

impl Create {
    /// Whether the pod was created.
    pub fn succeeded(&self) -> bool {
        self.status == Some(StatusCode::CREATED)
    }
}

/// A storm that is over.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Every create, in no order.
    pub creates: Vec<Create>,
    /// From the first create to the last answer.
    pub elapsed: Duration,
    /// Namespace and name of each pod that the storm itself deleted, or began to.
    pub deleted: HashSet<(String, String)>,
}

/// Why a storm could not be sent to its end.
#[derive(Debug, thiserror::Error)]
pub enum StormError {
    /// A server was not there when the storm was to begin.
    #[error("a client cannot connect")]
    Connect(#[from] ClientError),
    /// One of the clients panicked.
    #[error("a client stopped early")]
    Client(#[from] JoinError),
}

/// What no storm may leave behind.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// A create that was acknowledged left no pod.
    #[error("the pod {0:?} was acknowledged, but is not there")]
    Lost(String),
    /// A pod is there whose create was refused.
    #[error("the pod {0:?} is there, but its create was refused")]
    Refused(String),
}

impl Storm {
    /// Opens all connections, sends the storm, and tells `answered` of each create as it ends.
    ///
    /// # Errors
    /// If a server cannot be reached at the beginning. Later on, a create without an answer is one
    /// of the outcomes.
    pub async fn run(
        &self,
        answered: impl Fn(&Create) + Clone + Send + 'static,
    ) -> Result<Ended, StormError> {
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
        // The deletions end with the creates: what they are here for is the race between the two.
        drop(created);
        let deleted = deleter.join_next().await.transpose()?.unwrap_or_default();
        Ok(Ended {
            creates,
            elapsed,
            deleted,
        })
    }

    /// A connection to each server.
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
        // Neighbouring namespaces begin at different servers; a retry meets the same one, as over a
        // connection that is kept.
        let server = (round + namespace) % connections.len();
        let connection = &mut connections[server];
        let namespace = self.namespaces[namespace].clone();
        let name = format!("pod-{pod}");
        let start = Instant::now();
        let (mut attempts, mut conflicts, mut pause) = (0, 0, self.retry.pause);
        loop {
            attempts += 1;
            let (status, told) = match connection.create_pod(&namespace, &name).await {
                Some(answer) => (Some(answer.status), Told::by(answer.status, &answer.body)),
                None => (None, Told::Nothing),
            };
            conflicts += u32::from(told == Told::QuotaConflict);
            if told != Told::QuotaConflict || attempts >= self.retry.steps {
                return Create {
                    namespace,
                    name,
                    status,
                    told,
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

impl Ended {
    /// The time within which `part` (0 to 1) of the creates were over.
    pub fn quantile(&self, part: f64) -> Duration {
        let mut times: Vec<Duration> = self.creates.iter().map(|create| create.took).collect();
        times.sort_unstable();
        let index = ((times.len() as f64 * part).ceil() as usize).saturating_sub(1);
        times.get(index).copied().unwrap_or_default()
    }

    /// How many creates did not succeed.
    pub fn failed(&self) -> usize {
        self.creates
            .iter()
            .filter(|create| !create.succeeded())
            .count()
    }

    /// Compares what the clients were told with the pods that are there, by namespace and name.
    ///
    /// # Errors
    /// The first pod that is missing though acknowledged, or there though refused.
    pub fn check(&self, there: &HashSet<(String, String)>) -> Result<(), Wrong> {
        for create in &self.creates {
            let key = (create.namespace.clone(), create.name.clone());
            match (create.succeeded(), there.contains(&key)) {
                (true, false) if !self.deleted.contains(&key) => return Err(Wrong::Lost(key.1)),
                (false, true) if create.status.is_some() => return Err(Wrong::Refused(key.1)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A connection that is opened when it is first used, and again after it broke.
pub struct Connection {
    endpoint: Endpoint,
    open: Option<Client>,
}

impl Connection {
    /// One to this server.
    pub fn new(endpoint: Endpoint) -> Connection {
        Connection {
            endpoint,
            open: None,
        }
    }

    /// [`Client::create_pod`]; None if there is no answer.
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

/// Deletes what has been created, over each server in turn, until the storm ends.
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
