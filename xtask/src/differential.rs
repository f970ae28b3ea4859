//! Compares the proxy with Kubernetes' own code on generated inputs.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::process::{exists, run};
use crate::workspace::{Metadata, cargo, root};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The RequestInfo of a request.
    #[value(name = "requestinfo")]
    RequestInfo,
    /// Quantities, alone, compared and added.
    Quantity,
    /// Kubeconfigs, as client-go's clientcmd reads them.
    Kubeconfig,
}

impl Part {
    /// The name of its test.
    fn test(self) -> &'static str {
        match self {
            Part::RequestInfo => "differential_request_info",
            Part::Quantity => "differential_quantity",
            Part::Kubeconfig => "differential_kubeconfig",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DifferentialArgs {
    /// What is compared. None: all.
    parts: Vec<Part>,
    /// How many inputs are generated for each.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// The first number of the generator. The same one gives the same inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) fn compare(args: &DifferentialArgs) -> Result<()> {
    ensure!(exists("go"), "Go is needed to build the oracle");
    let oracle = Metadata::of(root())?.target.join("differential/oracle");
    if let Some(folder) = oracle.parent() {
        fs::create_dir_all(folder)?;
    }
    run(Command::new("go")
        .args(["build", "-o"])
        .arg(&oracle)
        .arg("./oracle")
        .current_dir(root().join("tests/controlplane/kubernetes")))?;
    let parts = match &args.parts[..] {
        [] => Part::value_variants(),
        some => some,
    };
    let names = parts.iter().map(|part| part.test());
    run(cargo()
        .args(["test", "--lib", "--"])
        .args(names)
        .args(["--ignored", "--nocapture", "--test-threads=1"])
        .env("DIFFERENTIAL_ORACLE", &oracle)
        .env("DIFFERENTIAL_COUNT", args.count.to_string())
        .env("DIFFERENTIAL_SEED", args.seed.to_string())
        .env("RUST_BACKTRACE", "0")
        .current_dir(root()))
}
