//! HTTP requests to a control plane, the same for the model and for a real one.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use model_control_plane::client::{Answer, Client};
use serde_json::Value;

/// The limit for the real controllers to prepare a namespace.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// The sum of the counters in `family` that have all of `labels`, from metrics in Prometheus' text
/// format.
pub(crate) fn counted(metrics: &str, family: &str, labels: &[&str]) -> u64 {
    let of_family = metrics.lines().filter(|line| {
        line.strip_prefix(family)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
    });
    let wanted = of_family.filter(|line| labels.iter().all(|label| line.contains(label)));
    wanted
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum::<f64>() as u64
}

/// Waits until the quota controller has computed every quota and the service account exists, which
/// every pod needs.
pub(crate) async fn until_prepared(client: &mut Client, namespace: &str) {
    let started = Instant::now();
    loop {
        let quotas = items(
            client,
            &format!("/api/v1/namespaces/{namespace}/resourcequotas"),
        )
        .await;
        let account = get_any(
            client,
            &format!("/api/v1/namespaces/{namespace}/serviceaccounts/default"),
        )
        .await;
        if account.status.is_success()
            && quotas
                .iter()
                .all(|quota| quota["status"]["used"]["pods"].is_string())
        {
            return;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "the controllers did not prepare the namespace {namespace}"
        );
        tokio::time::sleep(POLL).await;
    }
}

pub(crate) async fn items(client: &mut Client, path: &str) -> Vec<Value> {
    let mut list: Value =
        serde_json::from_slice(&get(client, path).await.body).expect("a list in JSON");
    match list["items"].take() {
        Value::Array(items) => items,
        // Go writes an empty slice as `null`.
        _ => Vec::new(),
    }
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

pub(crate) async fn get(client: &mut Client, path: &str) -> Answer {
    let answer = get_any(client, path).await;
    assert!(
        answer.status.is_success(),
        "GET {path}: {}",
        String::from_utf8_lossy(&answer.body)
    );
    answer
}

pub(crate) async fn get_any(client: &mut Client, path: &str) -> Answer {
    client
        .send(Method::GET, path, "")
        .await
        .expect("an apiserver answers")
}

pub(crate) async fn post(client: &mut Client, path: &str, object: &Value) {
    let answer = client
        .send(Method::POST, path, object.to_string())
        .await
        .expect("an apiserver answers");
    assert_eq!(
        answer.status,
        StatusCode::CREATED,
        "POST {path}: {}",
        String::from_utf8_lossy(&answer.body)
    );
}
