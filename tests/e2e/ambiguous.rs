//! Connections to the apiservers break during a storm with quotas, after creates were sent. With
//! `replay.ambiguous: Resolve`, creates end in what is true: the pods that clients know of are
//! those that are stored, with the same uids.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::breaker::Breaker;
use crate::control_plane::{ControlPlane, SERVERS};
use crate::outages::judge_storm;
use crate::proxy::Proxy;
use crate::table::Table;

const PODS: usize = 2000;
const IN_FLIGHT: usize = 50;

/// The results of ambiguous creates that a client can be told as they are.
const RESOLVED: [&str; 4] = ["found", "sent_again", "exists", "refused"];

pub fn trials() -> Vec<Trial> {
    vec![crate::trial(
        "ambiguous::creates_end_in_what_is_true_when_connections_break",
        broken_connections,
    )]
}

fn broken_connections(plane: &'static ControlPlane) {
    let mut table = Table::new(
        "Creates over connections that break",
        &[
            "replay.ambiguous",
            "encoding",
            "connections broken",
            "created",
            "failed",
            "ambiguous",
            "found",
            "sent again",
            "unresolved",
        ],
    );
    for (how, encoding) in [
        ("Relay", "protobuf"),
        ("Resolve", "protobuf"),
        ("Resolve", "json"),
    ] {
        let (report, proxy, broken) = storm(plane, how, encoding);
        let ambiguous = |result: &str| {
            let label = format!("result=\"{result}\"");
            proxy.metric("kube_retry_proxy_ambiguous_total", &label)
        };
        let all = proxy.metric("kube_retry_proxy_ambiguous_total", "");
        let resolved: u64 = RESOLVED.iter().map(|result| ambiguous(result)).sum();
        table.row(&[
            &how,
            &encoding,
            &broken,
            &report["created"],
            &report["failed"],
            &all,
            &ambiguous("found"),
            &ambiguous("sent_again"),
            &(all - resolved),
        ]);
        judge_storm(&report);
        assert!(
            all > 0,
            "no create was ambiguous, so nothing is proved: {report}"
        );
        let decisions = proxy.admin("/debug/decisions");
        if how == "Resolve" {
            assert!(ambiguous("found") > 0, "nothing was found: {decisions}");
            assert!(
                ambiguous("sent_again") > 0,
                "nothing was sent again: {decisions}"
            );
            assert_eq!(
                report["failed"],
                all - resolved,
                "a create failed without being ambiguous: {report}"
            );
        }
        proxy.stop();
    }
    table.print();
}

/// One storm, with a connection that breaks every few milliseconds. Returns the driver's report, the
/// proxy and how many connections broke.
fn storm(plane: &ControlPlane, how: &str, encoding: &str) -> (Value, Proxy, usize) {
    let breakers: Vec<_> = plane.servers[..SERVERS]
        .iter()
        .map(|server| Breaker::before(server))
        .collect();
    let servers: Vec<_> = breakers.iter().map(|breaker| breaker.url.clone()).collect();
    let more = format!(
        "replay: {{ambiguous: {how}, maxAttempts: 20, maxHold: 30s, \
         budget: {{other: {{ratio: 10, perSecond: 1000}}}}}}\nmetrics: {{decisions: 2000}}\n"
    );
    let proxy = Proxy::start(plane, &servers, &more);
    let namespace = plane.namespace("ambiguous", 2);
    let over = Arc::new(AtomicBool::new(false));
    let cutting = {
        let (over, breakers) = (Arc::clone(&over), breakers.clone());
        std::thread::spawn(move || {
            for turn in 0_u64.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(150));
                // Some creates are cut before they are stored, others after.
                let deaf = Duration::from_millis(turn % 5 * 8);
                breakers[turn as usize % breakers.len()].cut(deaf);
            }
        })
    };
    let mut arguments = proxy.storm(plane, &namespace, PODS, IN_FLIGHT);
    arguments.extend(["-encoding".to_owned(), encoding.to_owned()]);
    let report = plane.driver(&arguments);
    over.store(true, Ordering::Relaxed);
    cutting.join().unwrap();
    plane.empty(&namespace);
    plane.discard(&namespace);
    let broken = breakers
        .iter()
        .map(|each| each.broken.load(Ordering::Relaxed))
        .sum();
    (report, proxy, broken)
}
