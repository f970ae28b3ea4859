//! Clients that give up after ten seconds: what becomes of their creates when the proxy would hold
//! them for longer, and with the settings of docs/spark.md.

use libtest_mimic::Trial;

use super::driver::{CLIENTS, Client, Credentials, Outcome, PREFIX, kubeconfig};
use crate::control_plane::{ControlPlane, SERVERS};
use crate::proxy::Proxy;
use crate::table::Table;

/// The settings of docs/spark.md.
const RECOMMENDED: &str = "\
replay:
  maxHold: 4s
  exceededQuota: { enabled: true, maxHold: 4s }
";

/// A hold that is longer than the timeout of the clients.
const TOO_LONG: &str = "\
replay:
  exceededQuota: { enabled: true }
";

pub fn trials() -> Vec<Trial> {
    vec![
        crate::trial(
            "clients::fabric8_gets_an_answer_before_its_timeout",
            fabric8,
        )
        .with_ignored_flag(true),
    ]
}

/// A full quota refuses every create until the proxy gives up.
fn fabric8(plane: &'static ControlPlane) {
    let mut table = Table::new(
        "fabric8 and a full quota",
        &[
            "client",
            "settings",
            "creates",
            "refused by the quota",
            "without an answer",
            "seconds",
        ],
    );
    let mut wrong = Vec::new();
    for client in CLIENTS
        .iter()
        .filter(|client| client.name.starts_with("fabric8"))
    {
        for (name, settings) in [("30 s", TOO_LONG), ("4 s", RECOMMENDED)] {
            let outcome = refused(plane, client, settings);
            let refused = outcome
                .failed
                .values()
                .filter(|error| error.contains("exceeded quota"))
                .count();
            let unanswered = outcome.failed.len() - refused;
            table.row(&[
                &client.name,
                &name,
                &outcome.failed.len(),
                &refused,
                &unanswered,
                &format!("{:.1}", outcome.seconds),
            ]);
            if settings == RECOMMENDED && unanswered > 0 {
                wrong.push(format!("{}: {:?}", client.name, outcome.failed));
            }
        }
    }
    table.print();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn refused(plane: &ControlPlane, client: &Client, settings: &str) -> Outcome {
    let namespace = plane.namespace("timeout", 1);
    plane.kubectl(&[
        "patch",
        "quota",
        "quota-0",
        "--namespace",
        &namespace,
        "--type=merge",
        "--patch",
        r#"{"spec":{"hard":{"pods":"0"}}}"#,
    ]);
    let proxy = Proxy::start(plane, &plane.servers[..SERVERS], settings);
    let through = kubeconfig(
        &proxy.url,
        &proxy.ca_file(),
        &Credentials::Token(plane.token("user")),
    );
    let outcome = client.at_once(8).storm(through.path(), &namespace, PREFIX);
    proxy.stop();
    assert!(
        outcome.created.is_empty(),
        "the quota is full: {:?}",
        outcome.created
    );
    plane.discard(&namespace);
    outcome
}
