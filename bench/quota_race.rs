//! The race for a quota: every policy sends the same storm of creates, under many conditions, on
//! the model control plane or on a real one. `bench/README.md` says how to run the benchmark, and
//! shows results.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench stops at what it did not expect, and prints"
)]

#[path = "quota_race/args.rs"]
mod args;
#[path = "quota_race/figures.rs"]
mod figures;
#[path = "quota_race/plane.rs"]
mod plane;
#[path = "quota_race/plot.rs"]
mod plot;
#[path = "quota_race/policy.rs"]
mod policy;
mod processors;
#[path = "quota_race/report.rs"]
mod report;
#[path = "quota_race/requests.rs"]
mod requests;
#[path = "quota_race/run.rs"]
mod run;

use std::fs;

use clap::Parser;

use args::Args;
use report::Report;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let plan = Args::parse().plan();
    let mut report = Report::default();
    let total = plan.cells.len() * plan.policies.len() * plan.runs;
    let mut done = 0;
    for cell in &plan.cells {
        // The table has this order, the runs have another one.
        plan.policies
            .iter()
            .for_each(|policy| report.row(cell, policy));
        // A disturbance of the machine must affect every policy. The order changes in every round,
        // so that a periodic event, such as a garbage collection, does not always affect the same
        // policy.
        let mut turn = plan.policies.clone();
        for _ in 0..plan.runs {
            fastrand::shuffle(&mut turn);
            for policy in &turn {
                let figures = run::run(cell, policy, &plan).await;
                done += 1;
                eprintln!("{done}/{total}: {cell}: {policy}: {figures}");
                report.add(cell, policy, figures);
            }
        }
        if let Some(path) = &plan.json {
            fs::write(path, report.json()).expect("the JSON file can be written");
        }
    }
    println!("{report}");
    if let Some(path) = &plan.svg {
        fs::write(path, plot::draw(&report)).expect("the SVG file can be written");
    }
}
