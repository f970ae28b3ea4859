//! The admin port of a running proxy: its pages, and changes in every family of metrics.

mod creates;
mod metrics;
mod pages;

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_TYPE;
use http_body_util::Full;
use kube_retry_proxy::app::App;
use serde_json::Value;

use crate::support::{Answer, Client, admin, pod, rig, sample};

/// The value of one of the proxy's series. `name` lacks the common prefix.
fn of(proxy: &App, series: &str) -> f64 {
    sample(proxy, &format!("kube_retry_proxy_{series}"))
}

async fn json(proxy: &App, path: &str) -> Value {
    admin::get(proxy.admin_address, path).await.json()
}

/// Every series of a scrape, without values.
async fn series(proxy: &App) -> Vec<String> {
    let scrape = admin::get(proxy.admin_address, "/metrics").await.text();
    scrape
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
        .collect()
}

async fn create_in(client: &mut Client, namespace: &str, name: &str) -> Answer {
    let mut request = client.request(
        Method::POST,
        &format!("/api/v1/namespaces/{namespace}/pods"),
        pod(name),
    );
    request
        .headers_mut()
        .insert(CONTENT_TYPE, "application/json".parse().unwrap());
    Answer::of(client.send(request).await).await
}

/// The request with which kubectl starts an exec over SPDY.
fn exec_request(client: &Client) -> http::Request<Full<Bytes>> {
    let mut request = client.request(
        Method::POST,
        "/api/v1/namespaces/team/pods/a/exec?command=true&stdout=true",
        "",
    );
    request
        .headers_mut()
        .insert("connection", "Upgrade".parse().unwrap());
    request
        .headers_mut()
        .insert("upgrade", "SPDY/3.1".parse().unwrap());
    request
}
