//! The lab: scripted clients and upstreams abuse the real executable, while neighbours must be
//! served normally. The lab only sees the proxy from outside, and shares no code with it.
//!
//! `cargo test --test abuse` runs the short forms, and `cargo test --release --test abuse --
//! --ignored` the full ones. Among these, only `memory` writes the table of peaks.
//! `KUBE_RETRY_PROXY_SEED` repeats a run with its seed.

#![expect(unreachable_pub, reason = "`pub` says what a module offers the others")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "clippy takes only what has #[test] for a test"
)]

/// Collects the cases of a module from the names of its functions.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub fn cases() -> Vec<$crate::Case> {
            vec![$($crate::Case { name: stringify!($name), run: |size| Box::pin($name(size)) }),*]
        }
    };
}

mod cases;
mod faults;
mod journal;
mod lab;
mod neighbour;
mod peers;
mod proxy;
mod table;

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use lab::{Outcome, Size};
use libtest_mimic::{Arguments, Failed, Trial};

/// One abuse or fault scenario.
pub struct Case {
    /// The name of its function.
    pub name: &'static str,
    /// Runs it in one of its sizes.
    pub run: Run,
}

type Run = fn(Size) -> Pin<Box<dyn Future<Output = Outcome>>>;

/// The number of panics in any task, including those of peers.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One case at a time, because each needs the whole machine.
    arguments.test_threads = Some(1);
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        told(panic);
    }));
    let mut trials = Vec::new();
    for case in cases::all() {
        let run = case.run;
        trials.push(Trial::test(case.name, move || {
            judge(&runtime().block_on(run(Size::Short)))
        }));
        trials.push(
            Trial::test(format!("full_{}", case.name), move || {
                judge(&runtime().block_on(run(Size::Full)))
            })
            .with_ignored_flag(true),
        );
    }
    trials.push(Trial::test("memory", table::memory).with_ignored_flag(true));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn judge(outcome: &Outcome) -> Result<(), Failed> {
    println!("{outcome}");
    let mut found = outcome.found();
    let panics = PANICS.swap(0, Ordering::Relaxed);
    if panics > 0 {
        found.push(format!("{panics} panics"));
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(found.join("\n").into())
    }
}
