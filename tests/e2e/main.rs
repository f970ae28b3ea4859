//! The end-to-end suite: real etcd, kube-apiservers, kube-controller-manager and kube-scheduler, real
//! client-go and Argo, and the real executable between them. `cargo test --release --test e2e` runs all of it,
//! `-- storm` one part.
//!
//! Plain `cargo test` does not run it, because it needs Go and some minutes. If a requirement is
//! missing, it prints that and is skipped; in CI it fails.

#![expect(unreachable_pub, reason = "`pub` says what a module offers the others")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "clippy takes only what has #[test] for a test"
)]

mod ambiguous;
mod answers;
mod argo;
mod audit;
mod breaker;
mod certificates;
mod clients;
mod contention;
mod control_plane;
mod controllers;
mod discovery;
mod full_quota;
mod kubelet;
mod outages;
mod process;
#[path = "../../bench/processors.rs"]
mod processors;
mod proxy;
mod report;
mod requeue;
mod sidecar;
mod storm;
mod table;
mod transparency;
mod watches;
mod workflows;

use std::process::ExitCode;

use control_plane::ControlPlane;
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Tests share control planes, so they run one at a time.
    arguments.test_threads = Some(1);
    if !arguments.list
        && let Err(missing) = control_plane::prerequisites()
    {
        eprintln!("e2e is skipped: {missing}");
        return if std::env::var("CI").as_deref() == Ok("true") {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    let trials = [
        transparency::trials(),
        answers::trials(),
        storm::trials(),
        ambiguous::trials(),
        audit::trials(),
        report::trials(),
        requeue::trials(),
        sidecar::trials(),
        discovery::trials(),
        watches::trials(),
        clients::trials(),
        kubelet::trials(),
        certificates::trials(),
        controllers::trials(),
        workflows::trials(),
        full_quota::trials(),
        // The last one, because it stops components that the others use.
        outages::trials(),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials.into_iter().flatten().collect());
    ControlPlane::down();
    conclusion.exit_code()
}

/// A test that fails by panicking, like ordinary tests.
fn trial(name: &'static str, run: fn(&'static ControlPlane)) -> Trial {
    Trial::test(name, move || {
        run(ControlPlane::shared());
        Ok(())
    })
}

/// The same on the control plane with nodes.
fn trial_with_nodes(name: &'static str, run: fn(&'static ControlPlane)) -> Trial {
    Trial::test(name, move || {
        run(ControlPlane::with_nodes());
        Ok(())
    })
}
