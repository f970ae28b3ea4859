//! The dashboard and the alerts in a real Prometheus that scrapes a running proxy. Every query must
//! find its series.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use http::StatusCode;
use serde_json::Value;

use crate::support::executable::Process;
use crate::support::{Protocol, Rig, admin, conflict, eventually};
use model_control_plane::Fault;

const FILES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/deploy/helm/kube-retry-proxy/files"
);

#[tokio::test]
async fn every_query_of_the_dashboard_and_of_the_alerts_finds_its_series() {
    let rig = Rig::new().await;
    // Only a proxy that lets client certificates pass has this one.
    let year = 31_536_000;
    rig.proxy.metrics.front_proxy_certificate_expiry(60 * year);
    let Some(prometheus) = Prometheus::scraping(rig.proxy.admin_address) else {
        return;
    };
    // Two events whose series do not exist before: a conflict, and a lost answer.
    let mut client = rig.client(Protocol::Http1).await;
    rig.faults().next_create(conflict());
    assert_eq!(client.create("a").await.status, StatusCode::CREATED);
    rig.faults().next_create(Fault::LoseAnswer);
    assert_eq!(client.create("b").await.status, StatusCode::GATEWAY_TIMEOUT);

    prometheus.started().await;
    for query in dashboard_queries() {
        prometheus.finds(&query).await;
    }
    let rules = prometheus.rules().await;
    assert!(rules.len() > 10, "{rules:?}");
    // An alert has no result while all is well, so the test queries each of its series.
    for selector in rules.iter().flat_map(|rule| selectors(rule)) {
        prometheus.finds(&selector).await;
    }
    rig.stop().await;
}

/// The queries of all panels, with the dashboard's variables replaced as in Grafana.
fn dashboard_queries() -> Vec<String> {
    let dashboard: Value =
        serde_json::from_slice(&fs::read(format!("{FILES}/dashboard.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let queries: Vec<_> = panels
        .filter_map(|panel| panel["targets"].as_array())
        .flatten()
        .map(|target| target["expr"].as_str().unwrap())
        .map(|query| {
            query
                .replace("$__rate_interval", "1m")
                .replace("$__range", "5m")
                .replace("$namespace", ".*")
        })
        .collect();
    assert!(
        queries.len() > 20 && queries.iter().all(|query| !query.contains('$')),
        "{queries:?}"
    );
    queries
}

/// The selectors in an expression: `kube_retry_proxy_…`, with `{…}` if present.
fn selectors(expression: &str) -> Vec<String> {
    let starts = expression
        .match_indices("kube_retry_proxy_")
        .map(|(start, _)| &expression[start..]);
    let of = |rest: &str| {
        let name = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let matchers = if rest[name..].starts_with('{') {
            rest[name..].find('}').unwrap() + 1
        } else {
            0
        };
        rest[..name + matchers].to_owned()
    };
    starts.map(of).collect()
}

/// A Prometheus process. It is killed when this is dropped.
struct Prometheus {
    address: SocketAddr,
    _process: Process,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes `target` every second and evaluates the alerts. `None` if Prometheus is missing; in
    /// CI that is a failure.
    fn scraping(target: SocketAddr) -> Option<Self> {
        if Command::new("prometheus")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_err()
        {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "prometheus is not on the PATH"
            );
            eprintln!("prometheus is not on the PATH: the dashboard's queries are not run");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("prometheus.yml");
        let scrape = format!(
            "{{job_name: proxy, honor_labels: true, static_configs: [{{targets: ['{target}']}}]}}"
        );
        let config = format!(
            "global: {{scrape_interval: 1s}}\nrule_files: ['{FILES}/rules.yaml']\nscrape_configs: [{scrape}]\n"
        );
        fs::write(&file, config).unwrap();
        // Prometheus does not report the port that it has bound, so it gets one that was just free.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let process = Process::start(command(&file, &directory.path().join("data"), address));
        Some(Self {
            address,
            _process: process,
            _directory: directory,
        })
    }

    async fn started(&self) {
        eventually("Prometheus listens", || {
            TcpStream::connect(self.address).is_ok()
        })
        .await;
        admin::get_until(self.address, "/-/ready", |answer| {
            answer.status == StatusCode::OK
        })
        .await;
    }

    /// Fails if `query` has no result within half a minute.
    async fn finds(&self, query: &str) {
        let path = format!("/api/v1/query?query={}", encoded(query));
        admin::get_until(self.address, &path, |answer| {
            assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.text());
            !answer.json()["data"]["result"]
                .as_array()
                .unwrap()
                .is_empty()
        })
        .await;
    }

    /// The expressions of all alerts, as parsed by Prometheus.
    async fn rules(&self) -> Vec<String> {
        let answer = admin::get(self.address, "/api/v1/rules").await.json();
        let groups = answer["data"]["groups"].as_array().unwrap().iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
        rules
            .map(|rule| rule["query"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn command(config: &Path, data: &Path, address: SocketAddr) -> Command {
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address={address}"))
        .stdin(Stdio::null());
    command
}

fn encoded(query: &str) -> String {
    query
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
