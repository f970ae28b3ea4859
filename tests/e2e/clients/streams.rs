//! What lasts or upgrades the connection: a watch, a log, exec and port-forward, by each client
//! that has them, directly and through the proxy. kwok is the kubelet.

use std::path::Path;

use libtest_mimic::Trial;
use serde_json::json;

use super::driver::{CLIENTS, Client, Credentials, Streamed, kubeconfig};
use crate::control_plane::{ControlPlane, SERVERS};
use crate::proxy::Proxy;
use crate::table::Table;

pub fn trials() -> Vec<Trial> {
    vec![
        crate::trial_with_nodes("clients::short_set_streams", |plane| {
            streams(plane, "Streams of clients, short set", |client| {
                client.short
            })
        }),
        crate::trial_with_nodes("clients::all_stream", |plane| {
            streams(plane, "Streams of clients", |_| true)
        })
        .with_ignored_flag(true),
    ]
}

fn streams(plane: &ControlPlane, name: &'static str, wanted: impl Fn(&Client) -> bool) {
    let namespace = plane.namespace("streams", 0);
    let containers = json!([{ "name": "main", "image": "none" }]);
    plane.create(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": namespace, "name": "stays" },
        "spec": { "containers": containers },
    }));
    let ready = [
        "wait",
        "pod/stays",
        "--for=condition=Ready",
        "--timeout=60s",
    ];
    plane.kubectl(&[&ready[..], &["--namespace", &namespace]].concat());

    let proxy = Proxy::start(plane, &plane.servers[..SERVERS], "");
    let token = Credentials::Token(plane.token("user"));
    let direct = kubeconfig(&plane.servers[0], &plane.ca_file(), &token);
    let through = kubeconfig(&proxy.url, &proxy.ca_file(), &token);
    let mut table = Table::new(name, &["client", "watch", "log", "exec", "port-forward"]);
    let mut wrong = Vec::new();
    let has_streams = |client: &&Client| client.streams && wanted(client);
    for client in CLIENTS.iter().filter(has_streams) {
        let of = |kubeconfig: &Path| client.streamed(kubeconfig, &namespace, "stays");
        let (direct, proxied) = (of(direct.path()), of(through.path()));
        let cells = proxied.cells();
        table.row(&[&client.name, &cells[0], &cells[1], &cells[2], &cells[3]]);
        let (direct_cells, error) = (direct.cells(), proxied.error.or(direct.error));
        if cells != direct_cells || error.is_some() || cells.iter().all(|cell| *cell == "–") {
            wrong.push(format!(
                "{}: {direct_cells:?} directly, {cells:?} through the proxy: {error:?}",
                client.name
            ));
        }
    }
    table.print();
    proxy.stop();
    plane.discard(&namespace);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

impl Streamed {
    /// What worked, in the order of the columns. A client need not have all.
    fn cells(&self) -> [&'static str; 4] {
        let cell = |got: &Option<String>, expected: &str| match got {
            None => "–",
            Some(got) if got.contains(expected) => "works",
            Some(_) => "wrong",
        };
        [
            cell(&self.watch, "stays"),
            cell(&self.log, "a fake container"),
            cell(&self.exec, "out"),
            cell(&self.forward, "ping"),
        ]
    }
}
