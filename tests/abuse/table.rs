//! The memory table: every abuse in full size, each against a new process.

use std::fmt::Write as _;
use std::path::Path;

use libtest_mimic::Failed;

use crate::lab::Size;
use crate::{cases, runtime};

/// The most memory that the process may use under any abuse. docs/bounds.md states it, and it is
/// the limit of the chart.
const LIMIT_MIB: u64 = 1009;

/// Runs all abuses and writes the table to `target/tmp/abuse/memory.md` while it grows. `ABUSE`
/// selects the cases whose name contains it.
pub fn memory() -> Result<(), Failed> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("abuse");
    std::fs::create_dir_all(&directory)?;
    let only = std::env::var("ABUSE").unwrap_or_default();
    let mut table = "| abuse | peak MiB | after 10 s MiB | neighbours served | log KiB |\n|---|---|---|---|---|\n".to_owned();
    let mut over = Vec::new();
    for case in cases::abuses()
        .into_iter()
        .filter(|case| case.name.contains(&only))
    {
        let outcome = runtime().block_on((case.run)(Size::Full));
        let (peak, served) = (
            outcome.peak_kib >> 10,
            format!("{} of {}", outcome.tally.served(), outcome.tally.asked),
        );
        let (after, log) = (outcome.after_kib >> 10, outcome.log_bytes >> 10);
        writeln!(
            table,
            "| {} | {peak} | {after} | {served} | {log} |",
            case.name.replace('_', " ")
        )?;
        println!("{}: {outcome}", case.name);
        for found in outcome.found() {
            println!("    {}", found.chars().take(500).collect::<String>());
        }
        std::fs::write(directory.join("memory.md"), &table)?;
        if peak > LIMIT_MIB {
            over.push(format!("{}: {peak} MiB", case.name));
        }
    }
    println!("{table}");
    if over.is_empty() {
        Ok(())
    } else {
        Err(format!("more than {LIMIT_MIB} MiB: {}", over.join(", ")).into())
    }
}
