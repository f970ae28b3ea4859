//! The model control plane: several apiservers over one store, in this process, on real sockets.
//!
//! Quota conflicts emerge in it from the same race as in a real control plane, calibrated on
//! measurements (bench/README.md). `demo`, the integration tests and the benchmarks run against it.
//! It makes the race, not the answers; what else goes wrong is asked for through [`Faults`], and
//! the [`Journal`] keeps every attempt.
//!
//! It judges the proxy, so it knows nothing of it: encodings, negotiation, certificates and client
//! are its own, and deliberately made in another way.

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
pub mod told;
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
pub use told::Told;

/// Why the control plane could not start or be changed.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No port could be bound.
    #[error("cannot bind a loopback port")]
    Bind(#[from] std::io::Error),
    /// No certificate could be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The certificate cannot be served with.
    #[error("cannot serve TLS")]
    Tls(#[from] rustls::Error),
    /// An object could not be stored.
    #[error("cannot store the {kind} {name:?}")]
    Store {
        /// The kind of object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The store's reason.
        #[source]
        source: store::StoreError,
    },
    /// A limit of a quota is no quantity.
    #[error("the limits of the quota {0:?} are no quantities")]
    Quantity(String),
    /// The settings ask for no apiserver at all.
    #[error("a control plane needs an apiserver")]
    NoApiserver,
}

/// A running control plane. Dropped without [`ControlPlane::shutdown`], its tasks stop without
/// saying whether one had panicked.
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
    /// Starts everything on free ports of 127.0.0.1; connections are accepted when this returns.
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
        self.list_apiservers(&Vec::from_iter(0..self.servers.len()));
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

    /// The load balancer before all apiservers.
    pub fn balanced_url(&self) -> String {
        format!("https://{}", self.balancer)
    }

    /// The load balancer's address.
    pub fn balanced_address(&self) -> SocketAddr {
        self.balancer
    }

    /// Names these apiservers, counted from 0, in the EndpointSlice of the Service `kubernetes`. At
    /// first all are named.
    pub fn list_apiservers(&self, apiservers: &[usize]) {
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

    /// Forgets how that EndpointSlice has changed so far: who watches it has to list it again.
    pub fn compact_apiservers(&self) {
        self.endpoints.send_modify(|endpoints| {
            endpoints.revision += 1;
            endpoints.compacted = endpoints.revision;
        });
    }

    /// The authority that signed the servers' certificate.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A bearer token that is accepted.
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

    /// Marks a namespace as being deleted: from now on it refuses new pods.
    pub fn terminate_namespace(&self, name: &str) -> Result<(), ModelError> {
        let stored = self.store.terminate_namespace(name);
        stored.map_err(|source| ModelError::Store {
            kind: "namespace",
            name: name.to_owned(),
            source,
        })
    }

    /// Stores a quota whose status is computed already: `create_quota("ns", "q", &[("pods", "100"),
    /// ("requests.cpu", "10")])`.
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
        let stored = self
            .store
            .create_quota_with_status(namespace, name, hard.clone(), hard, used);
        stored.map(drop).map_err(|source| ModelError::Store {
            kind: "quota",
            name: name.to_owned(),
            source,
        })
    }

    /// The pods of a namespace, by name.
    pub fn pods(&self, namespace: &str) -> Vec<Arc<Pod>> {
        self.store.pods(Some(namespace)).0
    }

    /// The Kubernetes Events that were posted, in order.
    pub fn events(&self) -> Vec<serde_json::Value> {
        self.store.events()
    }

    /// One quota: `hard` and `used` are its status.
    pub fn quota(&self, namespace: &str, name: &str) -> Option<Arc<Quota>> {
        self.store.quota(namespace, name)
    }

    /// The quota controller: on, off, recalculate.
    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// How many writes of quota status have won and lost.
    pub fn quota_writes(&self) -> QuotaWrites {
        self.store.quota_writes()
    }

    /// The store itself, for whatever else a test wants to see or change behind the apiservers'
    /// backs.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Every request so far.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// What goes wrong with one apiserver, counted from 0; `None` if there are not so many.
    pub fn faults(&self, apiserver: usize) -> Option<&Arc<Faults>> {
        self.servers.get(apiserver).map(|server| &server.faults)
    }

    /// The lines of container logs.
    pub fn logs(&self) -> &Arc<Logs> {
        &self.logs
    }

    /// Stops everything and waits for it. Panics if one of the control plane's tasks had panicked.
    pub async fn shutdown(self) {
        self.tasks.finish().await;
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// The requests and answers that were captured from real apiservers.
#[cfg(test)]
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/samples");

#[cfg(test)]
mod calibration;
#[cfg(test)]
mod tests;
