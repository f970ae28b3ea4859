//! The control plane of a run: the model in this process, or a real one started by `cargo xtask
//! control-plane`.
//!
//! The benchmark reads both with the same HTTP requests. They differ in how namespaces are created,
//! where quota writes are counted, and in the journal, which only the model has.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::{Method, Version};
use model_control_plane::amounts::Amounts;
use model_control_plane::client::{Client, Endpoint};
use model_control_plane::store::QuotaWrites;
use model_control_plane::storm::StormResult;
use model_control_plane::{ControlPlane, Settings};
use serde_json::{Value, json};

use crate::args::{Cell, Plan};
use crate::processors;
use crate::requests::{PATIENCE, counted, get, items, post, text, until_prepared};

/// A control plane.
pub(crate) struct Plane {
    /// The servers for creates.
    servers: Vec<String>,
    ca_pem: String,
    /// The token of the clients.
    token: String,
    /// Every apiserver, with the rights of an administrator.
    admin: Vec<Endpoint>,
    /// The process ids of a real control plane's apiservers, in the order in which they were
    /// started.
    processes: Vec<u32>,
    model: Option<ControlPlane>,
}

/// The state after a storm.
pub(crate) struct State {
    /// Namespace and name of every pod.
    pub(crate) pods: HashSet<(String, String)>,
    /// The charged pods, as a sum over all quotas.
    pub(crate) charged: i64,
}

impl Plane {
    /// Starts a new model, or selects this many apiservers of the real control plane at random.
    pub(crate) async fn start(apiservers: usize, watch_latency: Duration, plan: &Plan) -> Plane {
        match &plan.control_plane {
            Some(directory) => Plane::real(directory, apiservers),
            None => Plane::model(apiservers, watch_latency, plan.processors).await,
        }
    }

    async fn model(apiservers: usize, watch_latency: Duration, processors: u32) -> Plane {
        let calibrated = Settings::default();
        let settings = Settings {
            apiservers,
            watch_latency,
            handler_time: calibrated.handler_time / processors,
            update_time: calibrated.update_time / processors,
            event_time: calibrated.event_time / processors,
            ..calibrated
        };
        let model = ControlPlane::start(settings)
            .await
            .expect("loopback ports are free");
        let (ca_pem, token) = (model.ca_pem().to_owned(), model.token().to_owned());
        Plane::new(model.urls(), ca_pem, &token, &token, Some(model))
    }

    fn real(directory: &Path, apiservers: usize) -> Plane {
        let read = |name| {
            fs::read_to_string(directory.join(name)).expect("the directory of a control plane")
        };
        let mut servers: Vec<_> = read("servers").lines().map(str::to_owned).collect();
        assert!(
            servers.len() >= apiservers,
            "the control plane has fewer apiservers"
        );
        let processes = servers
            .iter()
            .map(|url| process_at(directory, url))
            .collect();
        // The apiservers are not equal: the first one also serves kube-controller-manager, and its
        // larger memory makes it collect garbage at other times. A policy that uses few apiservers
        // must not always get the same ones.
        fastrand::shuffle(&mut servers);
        let mut plane = Plane::new(
            servers,
            read("pki/ca.crt"),
            read("user.token").trim(),
            read("admin.token").trim(),
            None,
        );
        plane.servers.truncate(apiservers);
        plane.processes = processes;
        // The apiserver that creates the namespaces, and lists and deletes the pods, must not
        // always be the one of the oracle policy.
        fastrand::shuffle(&mut plane.admin);
        plane
    }

    fn new(
        servers: Vec<String>,
        ca_pem: String,
        token: &str,
        admin_token: &str,
        model: Option<ControlPlane>,
    ) -> Plane {
        let endpoint = |url: &String| {
            Endpoint::new(url, &ca_pem, admin_token, Version::HTTP_11)
                .expect("an address on loopback")
        };
        Plane {
            admin: servers.iter().map(endpoint).collect(),
            servers,
            ca_pem,
            token: token.to_owned(),
            processes: Vec::new(),
            model,
        }
    }

    /// The URL of each apiserver.
    pub(crate) fn servers(&self) -> &[String] {
        &self.servers
    }

    /// The authority that signed their certificates.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The token of the clients.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// CPU seconds that each apiserver of a real control plane has used since its start.
    pub(crate) fn apiservers_spent(&self) -> Vec<f64> {
        self.processes
            .iter()
            .map(|&id| processors::process(id))
            .collect()
    }

    /// Creates namespaces with quotas. When this returns, they accept pods.
    pub(crate) async fn namespaces(&self, cell: &Cell) -> Vec<String> {
        let names: Vec<_> = (0..cell.namespaces)
            .map(|index| format!("race-{:08x}-{index}", fastrand::u32(..)))
            .collect();
        // More than enough, because a create that loses a race may leave its charge.
        let pods = cell
            .margin
            .map_or(cell.pods * 100, |margin| {
                cell.pods / cell.namespaces + margin
            })
            .to_string();
        let hard = [
            ("pods", pods.as_str()),
            ("requests.cpu", "100000"),
            ("requests.memory", "10000Gi"),
        ];
        let quotas = || (0..cell.quotas).map(|index| format!("quota-{index}"));
        if let Some(model) = &self.model {
            for namespace in &names {
                model.create_namespace(namespace).expect("a new namespace");
                quotas().for_each(|quota| {
                    model
                        .create_quota(namespace, &quota, &hard)
                        .expect("a new quota")
                });
            }
            return names;
        }
        let mut client = self.admin().await;
        let hard: Value = hard
            .into_iter()
            .map(|(name, limit)| (name.to_owned(), limit.into()))
            .collect::<serde_json::Map<_, _>>()
            .into();
        for namespace in &names {
            let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
            post(&mut client, "/api/v1/namespaces", &object).await;
            for quota in quotas() {
                let object = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": quota }, "spec": { "hard": hard } });
                post(
                    &mut client,
                    &format!("/api/v1/namespaces/{namespace}/resourcequotas"),
                    &object,
                )
                .await;
            }
        }
        for namespace in &names {
            until_prepared(&mut client, namespace).await;
        }
        names
    }

    /// Waits until the controllers have finished the work of the previous run: a real control plane
    /// keeps using the CPUs of this machine for seconds after its answers.
    pub(crate) async fn settled(&self) {
        if self.model.is_some() {
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = processors::machine();
            tokio::time::sleep(Duration::from_secs(1)).await;
            if processors::machine() - before < 0.2 {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "something else keeps this machine busy: a race that it disturbs shows nothing"
            );
        }
    }

    /// The number of status updates of quotas that have succeeded and failed since the start.
    pub(crate) async fn quota_writes(&self) -> QuotaWrites {
        if let Some(model) = &self.model {
            return model.quota_writes();
        }
        let mut writes = QuotaWrites::default();
        for server in &self.admin {
            let mut client = server.connect().await.expect("an apiserver accepts");
            let metrics = get(&mut client, "/metrics").await;
            let metrics = String::from_utf8_lossy(&metrics.body);
            let updates = |code| {
                let labels = [
                    r#"resource="resourcequotas""#,
                    r#"subresource="status""#,
                    r#"verb="PUT""#,
                    code,
                ];
                counted(&metrics, "apiserver_request_total", &labels)
            };
            writes.won += updates(r#"code="200""#);
            writes.lost += updates(r#"code="409""#);
        }
        writes
    }

    /// The pods of these namespaces, and the usage in their quotas.
    pub(crate) async fn state(&self, namespaces: &[String]) -> State {
        let mut client = self.admin().await;
        let mut state = State {
            pods: HashSet::new(),
            charged: 0,
        };
        for namespace in namespaces {
            for pod in items(&mut client, &format!("/api/v1/namespaces/{namespace}/pods")).await {
                state
                    .pods
                    .insert((namespace.clone(), text(&pod["metadata"]["name"]).to_owned()));
            }
            for quota in items(
                &mut client,
                &format!("/api/v1/namespaces/{namespace}/resourcequotas"),
            )
            .await
            {
                // The quantity of 1,000 pods is `1k`.
                let used = Amounts::parse([("pods", text(&quota["status"]["used"]["pods"]))])
                    .expect("a quantity");
                state.charged += used.whole("pods");
            }
        }
        state
    }

    /// If there is a journal, it must have every created pod exactly once.
    pub(crate) fn check_journal(&self, ended: &StormResult) {
        let Some(model) = &self.model else { return };
        assert_eq!(
            model.journal().stored_twice(),
            None,
            "a pod was stored twice"
        );
        let mut stored = 0;
        model
            .journal()
            .for_each_create(|attempt| stored += usize::from(attempt.stored.is_some()));
        let unanswered = ended
            .creates
            .iter()
            .filter(|create| create.status.is_none())
            .count();
        let acknowledged = ended.creates.len() - ended.failed();
        assert!(
            (acknowledged..=acknowledged + unanswered).contains(&stored),
            "{acknowledged} acknowledged, {stored} stored"
        );
    }

    /// Stops the model, or deletes the pods from a real control plane, so that the next run starts
    /// in the same state. The namespaces stay, because their deletion takes seconds and would
    /// disturb the next run.
    pub(crate) async fn stop(self, namespaces: &[String]) {
        if let Some(model) = self.model {
            return model.shutdown().await;
        }
        let mut client = self.admin().await;
        for namespace in namespaces {
            // No node runs these pods, so they are gone when this is answered.
            let path = format!("/api/v1/namespaces/{namespace}/pods");
            let answer = client
                .send(Method::DELETE, &path, "")
                .await
                .expect("an apiserver answers");
            assert!(
                answer.status.is_success(),
                "DELETE {path}: {}",
                String::from_utf8_lossy(&answer.body)
            );
        }
    }

    async fn admin(&self) -> Client {
        self.admin[0].connect().await.expect("an apiserver accepts")
    }
}

/// The id of the process that serves `url`. The control plane's folder has it in `NAME.pid`, beside
/// `NAME.url`.
fn process_at(directory: &Path, url: &str) -> u32 {
    let read = |path: &Path| fs::read_to_string(path).expect("a control plane that is up");
    let entries = fs::read_dir(directory.join("run")).expect("the directory of a control plane");
    let mut paths = entries.map(|entry| entry.expect("an entry of the directory").path());
    let is_it = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "url") && read(path).trim() == url
    };
    let path = paths.find(is_it).expect("a component for each apiserver");
    read(&path.with_extension("pid"))
        .trim()
        .parse()
        .expect("a process id")
}
