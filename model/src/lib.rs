//! The model control plane: several apiservers over one store, in this process, on real sockets.
//!
//! Quota conflicts emerge from the same race as in a real control plane. The timing is calibrated
//! on measurements (bench/README.md). `demo`, the integration tests and the benchmarks run against
//! this crate. Tests request every other kind of failure through [`Faults`]. The [`Journal`]
//! records every attempt.
//!
//! The tests judge the proxy by this crate, so it shares no code with the proxy. It has its own
//! encodings, content negotiation, certificates and client, and it implements them in a different
//! way.

pub mod amounts;
pub mod apiserver;
pub mod certificate;
pub mod client;
pub mod controller;
pub mod dice;
pub mod encoding;
pub mod envelope;
pub mod faults;
pub mod informer;
pub mod journal;
pub mod machine;
pub mod object;
pub mod quota;
pub mod status;
pub mod store;
pub mod storm;
pub mod tasks;
pub mod tokens;
pub mod create_result;
pub mod wire;

mod balancer;
mod body;
mod serve;
mod settings;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use amounts::Amounts;
use apiserver::{Apiserver, Endpoints, Logs};
use balancer::Backend;
pub use body::BodyError;
use controller::{Controller, Pace};
pub use create_result::CreateResult;
use dice::Dice;
pub use encoding::Encoding;
pub use faults::{Canned, Fault, Faults};
pub use journal::{Attempt, Journal, QuotaOutcome, Stored};
use machine::Machine;
use object::{Pod, Quota};
use quota::Evaluator;
use serve::Serving;
pub use settings::Settings;
pub use status::Status;
use store::{QuotaWrites, Store};
use tasks::Tasks;
use tokens::Tokens;

/// Why the control plane could not start, or why a change to it failed.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No listener could be bound.
    #[error("cannot bind a loopback port")]
    Bind(#[from] std::io::Error),
    /// The certificate could not be generated.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The certificate was rejected by rustls.
    #[error("cannot serve TLS")]
    Tls(#[from] rustls::Error),
    /// An object could not be stored.
    #[error("cannot store the {kind} {name:?}")]
    Store {
        /// The kind of the object.
        kind: &'static str,
        /// The name of the object.
        name: String,
        /// The reason that the store gave.
        #[source]
        source: store::StoreError,
    },
    /// A limit of a quota is malformed.
    #[error("a limit of the quota {0:?} is not a valid quantity")]
    Quantity(String),
    /// The settings have no apiserver.
    #[error("a control plane needs an apiserver")]
    NoApiserver,
}

/// A running control plane. If it is dropped without [`ControlPlane::shutdown`], its tasks stop,
/// and a panic in one of them goes unnoticed.
#[derive(Debug)]
pub struct ControlPlane {
    store: Arc<Store>,
    journal: Arc<Journal>,
    controller: Controller,
    logs: Arc<Logs>,
    servers: Vec<Backend>,
    balancer: SocketAddr,
    endpoints: Arc<watch::Sender<Endpoints>>,
    ca_pem: String,
    tokens: Tokens,
    tasks: Tasks,
}

impl ControlPlane {
    /// Starts everything on free ports of 127.0.0.1. When this returns, the servers accept
    /// connections.
    pub async fn start(settings: Settings) -> Result<ControlPlane, ModelError> {
        if settings.apiservers == 0 {
            return Err(ModelError::NoApiserver);
        }
        let certificates = certificate::make(!settings.http1_only)?;
        let dice = Dice::seeded(settings.seed);
        let tasks = Tasks::new();
        let machine = Arc::new(Machine::new(settings.costs(), dice.next()));
        let store = Arc::new(Store::keeping(settings.changes, dice.next()).on(&machine));
        let lag = settings.lag(&dice);
        let (qps, burst) = settings.controller_rate;
        let pace = Pace {
            resync: settings.resync,
            qps,
            burst,
        };
        let controller = Controller::new(store.clone(), machine.clone(), tasks.clone(), lag, pace);
        let plane = ControlPlane {
            store,
            journal: Journal::new(settings.journal),
            controller,
            logs: Arc::default(),
            servers: Vec::new(),
            balancer: SocketAddr::from(([127, 0, 0, 1], 0)),
            endpoints: Arc::default(),
            ca_pem: certificates.ca_pem,
            tokens: Tokens::new(settings.tokens.clone()),
            tasks,
        };
        plane.tasks.spawn_until_stop(plane.controller.clone().run());
        let serving = Serving {
            tls: TlsAcceptor::from(certificates.server),
            max_streams: settings.max_streams,
            idle_timeout: settings.idle_timeout,
        };
        plane.listen(&settings, &machine, &serving, &dice).await
    }

    async fn listen(
        mut self,
        settings: &Settings,
        machine: &Arc<Machine>,
        serving: &Serving,
        dice: &Dice,
    ) -> Result<ControlPlane, ModelError> {
        for (index, listener) in serve::bind_all(settings.apiservers, settings.own_addresses)
            .await?
            .into_iter()
            .enumerate()
        {
            let address = listener.local_addr()?;
            let lag = settings.lag(dice);
            let faults = Arc::new(Faults::new());
            let apiserver = Arc::new(Apiserver {
                index,
                store: self.store.clone(),
                machine: machine.clone(),
                journal: self.journal.clone(),
                tokens: self.tokens.clone(),
                logs: self.logs.clone(),
                endpoints: self.endpoints.clone(),
                evaluator: Evaluator::new(
                    self.store.clone(),
                    machine.clone(),
                    self.tasks.clone(),
                    lag,
                ),
                faults: faults.clone(),
                dice: Dice::seeded(dice.next()),
                watch_latency: settings.watch_latency,
                tasks: self.tasks.clone(),
            });
            self.tasks.spawn_until_stop(serve::serve(
                listener,
                address,
                apiserver,
                serving.clone(),
            ));
            self.servers.push(Backend { address, faults });
        }
        let listener = serve::bind().await?;
        self.balancer = listener.local_addr()?;
        self.tasks.spawn_until_stop(balancer::serve(
            listener,
            self.servers.clone(),
            self.tasks.clone(),
        ));
        self.set_listed_apiservers(&Vec::from_iter(0..self.servers.len()));
        Ok(self)
    }

    /// `https://127.0.0.1:port` of every apiserver.
    pub fn urls(&self) -> Vec<String> {
        self.servers
            .iter()
            .map(|server| format!("https://{}", server.address))
            .collect()
    }

    /// The address of every apiserver.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.address).collect()
    }

    /// The URL of the load balancer in front of all apiservers.
    pub fn balanced_url(&self) -> String {
        format!("https://{}", self.balancer)
    }

    /// The address of the load balancer.
    pub fn balanced_address(&self) -> SocketAddr {
        self.balancer
    }

    /// Sets the apiservers (counted from 0) that the EndpointSlice of the Service `kubernetes`
    /// lists. All are listed at the start.
    pub fn set_listed_apiservers(&self, apiservers: &[usize]) {
        let addresses = apiservers
            .iter()
            .filter_map(|index| self.servers.get(*index))
            .map(|server| server.address)
            .collect();
        self.endpoints.send_modify(|endpoints| {
            endpoints.addresses = addresses;
            endpoints.revision += 1;
        });
    }

    /// Drops the history of that EndpointSlice, so that every watch of it has to list again.
    pub fn compact_endpoints(&self) {
        self.endpoints.send_modify(|endpoints| {
            endpoints.revision += 1;
            endpoints.compacted = endpoints.revision;
        });
    }

    /// The certificate of the authority that signed the servers' certificate, in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A bearer token that the apiservers accept.
    pub fn token(&self) -> &str {
        self.tokens.first()
    }

    /// Stores a namespace.
    pub fn create_namespace(&self, name: &str) -> Result<(), ModelError> {
        let stored = self.store.create_namespace(name);
        stored.map(drop).map_err(|source| ModelError::Store {
            kind: "namespace",
            name: name.to_owned(),
            source,
        })
    }

    /// Marks a namespace as being deleted. It then refuses new pods.
    pub fn terminate_namespace(&self, name: &str) -> Result<(), ModelError> {
        let stored = self.store.terminate_namespace(name);
        stored.map_err(|source| ModelError::Store {
            kind: "namespace",
            name: name.to_owned(),
            source,
        })
    }

    /// Stores a quota with a computed status: `create_quota("ns", "q", &[("pods", "100"),
    /// ("requests.cpu", "10"), ("count/jobs.batch", "20")])`.
    pub fn create_quota(
        &self,
        namespace: &str,
        name: &str,
        hard: &[(&str, &str)],
    ) -> Result<(), ModelError> {
        let hard = Amounts::parse(hard.iter().copied())
            .ok_or_else(|| ModelError::Quantity(name.to_owned()))?;
        let mut used = Amounts::new();
        hard.names().for_each(|resource| used.set(resource, 0));
        for pod in self.pods(namespace) {
            used.add(&pod.posted.usage.masked(&hard));
        }
        used.add(&self.store.usage_of_others(namespace).masked(&hard));
        let stored = self
            .store
            .create_quota_with_status(namespace, name, hard.clone(), hard, used);
        stored.map(drop).map_err(|source| ModelError::Store {
            kind: "quota",
            name: name.to_owned(),
            source,
        })
    }

    /// The pods of a namespace, sorted by name.
    pub fn pods(&self, namespace: &str) -> Vec<Arc<Pod>> {
        self.store.pods(Some(namespace)).0
    }

    /// The names of the objects of another resource (`services`, `jobs.batch`) in a namespace.
    pub fn others(&self, namespace: &str, resource: &str) -> Vec<String> {
        self.store.others(namespace, resource)
    }

    /// The Kubernetes Events that clients have posted, in order.
    pub fn events(&self) -> Vec<serde_json::Value> {
        self.store.events()
    }

    /// One quota. `hard` and `used` are its status.
    pub fn quota(&self, namespace: &str, name: &str) -> Option<Arc<Quota>> {
        self.store.quota(namespace, name)
    }

    /// The quota controller, which a test can turn on and off, or ask to recalculate.
    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// The number of status writes to quotas that won and lost the race.
    pub fn quota_writes(&self) -> QuotaWrites {
        self.store.quota_writes()
    }

    /// The store itself, for tests that read or change more than the methods here allow.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The journal of all requests.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// The faults of one apiserver (counted from 0). `None` if there is no such apiserver.
    pub fn faults(&self, apiserver: usize) -> Option<&Arc<Faults>> {
        self.servers.get(apiserver).map(|server| &server.faults)
    }

    /// The container logs, to which tests push lines.
    pub fn logs(&self) -> &Arc<Logs> {
        &self.logs
    }

    /// Stops everything and waits for it.
    ///
    /// # Panics
    ///
    /// If a task of the control plane has panicked.
    pub async fn shutdown(self) {
        self.tasks.finish().await;
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// The requests and answers captured from real apiservers.
#[cfg(test)]
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/samples");

#[cfg(test)]
mod calibration;
#[cfg(test)]
mod tests;
