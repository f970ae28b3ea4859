//! Compares kube-retry-proxy with HAProxy, nginx, Envoy and a minimal proxy made of hyper.
//!
//! Every contestant runs alone on one processor with one worker. The client and a stub in place of
//! kube-apiserver share the other one. In each round every contestant takes its turn in each cell,
//! so that a noisy neighbour disturbs all of them. `bench/README.md` says how to read the results.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its tables and its progress"
)]

mod accounting;
mod client;
mod contestant;
mod guard;
mod install;
mod instructions;
mod measure;
mod parts;
mod plot;
mod report;
mod scale;
mod stub;
mod tls;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use tempfile::TempDir;

use client::Protocol;
use contestant::{Contestant, Kind, Place, beside};
use parts::Comparison;
use report::Table;
use tls::Tls;

/// Compares the proxy with general proxies. Needs two processors, and nothing else that runs.
#[derive(Debug, Parser)]
struct Args {
    /// How often each contestant takes its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each turn.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// What to measure; all of it if not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Only contestants whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    contestants: Vec<String>,
    /// Only cells whose name contains one of these, as in `POST h2`.
    #[arg(long, value_delimiter = ',')]
    cells: Vec<String>,
    /// Another build or setting of the proxy: `NAME=PROGRAM` or `NAME=PROGRAM --flag …`.
    #[arg(long, value_name = "NAME=COMMAND")]
    variant: Vec<String>,
    /// How many watches to open.
    #[arg(long, default_value_t = 5000)]
    watches: usize,
    /// Writes the figures of all rounds.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the same as CSV.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Draws the processor time.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Keeps Valgrind's profiles, for callgrind_annotate.
    #[arg(long, value_name = "DIRECTORY")]
    profiles: Option<PathBuf>,
    /// Counts instructions only, and fails if they are more than this file says.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "contestants"])]
    guard: Option<PathBuf>,
    /// With --guard: writes that file instead.
    #[arg(long, requires = "guard")]
    record: bool,
    /// Where Envoy is installed if it is not in PATH.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/peers")]
    install: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Processor time for each request, in eight cells.
    Cost,
    /// Latency at 2,000 creates a second.
    Latency,
    /// Memory of idle watches.
    Watches,
    /// Throughput of lists of 5 MiB.
    Lists,
    /// Creates that meet two conflicts each.
    Conflicts,
    /// Instructions for each request outside of the kernel, counted by Valgrind. They hardly vary,
    /// so they show what a change of the program is worth.
    Instructions,
    /// Processor time on up to 5,000 connections and in up to 10,000 namespaces, and memory up to a
    /// million creates.
    Scale,
}

impl Part {
    const ALL: [Self; 7] = [
        Self::Cost,
        Self::Latency,
        Self::Watches,
        Self::Lists,
        Self::Conflicts,
        Self::Instructions,
        Self::Scale,
    ];
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args = Args::parse();
    let own = std::process::id();
    let pinned = Command::new("taskset")
        .args(["-a", "-p", "-c", "1", &own.to_string()])
        .output()
        .context("taskset, of Debian's util-linux")?;
    ensure!(
        pinned.status.success(),
        "two processors are needed: {}",
        String::from_utf8_lossy(&pinned.stderr)
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, compare(&args))
}

async fn compare(args: &Args) -> Result<()> {
    let contestants: Vec<_> = contestants(args)?
        .into_iter()
        .filter(|each| match args.guard {
            Some(_) => [guard::OURS, guard::FLOOR].contains(&&*each.name),
            None => {
                args.contestants.is_empty()
                    || args.contestants.iter().any(|part| each.name.contains(part))
            }
        })
        .collect();
    let directory = TempDir::new()?;
    let tls = Tls::make(directory.path())?;
    let needs = |kind: fn(&Kind) -> bool| contestants.iter().any(|each| kind(&each.kind));
    let mut place = Place {
        directory: directory.path(),
        upstream: stub::start(tls.server()?).await?,
        haproxy: PathBuf::new(),
        nginx: PathBuf::new(),
        envoy: PathBuf::new(),
    };
    if needs(|kind| matches!(kind, Kind::Haproxy(_))) {
        place.haproxy = install::debian("haproxy", "haproxy")?;
        println!("{}", install::version(&place.haproxy, "-v")?);
    }
    if needs(|kind| matches!(kind, Kind::Nginx)) {
        place.nginx = install::debian("nginx", "nginx-light")?;
        println!("{}", install::version(&place.nginx, "-v")?);
    }
    if needs(|kind| matches!(kind, Kind::Envoy)) {
        place.envoy = install::envoy(&args.install)?;
        println!("{}", install::version(&place.envoy, "--version")?);
    }
    let ours = beside("kube-retry-proxy")?;
    println!("{}\n", install::version(&ours, "--version")?);
    let parts = if args.guard.is_some() {
        vec![Part::Instructions]
    } else if args.only.is_empty() {
        Part::ALL.to_vec()
    } else {
        args.only.clone()
    };
    let comparison = Comparison {
        args,
        place: &place,
        tls: &tls,
        contestants: &contestants,
    };
    let mut tables = Vec::new();
    for part in parts {
        let measured = comparison.measure(part).await?;
        for table in &measured {
            println!("{}", table.markdown());
        }
        if let (Part::Cost, Some(path)) = (part, &args.svg) {
            fs::write(path, plot::svg(&measured[0]))?;
        }
        tables.extend(measured);
    }
    match &args.guard {
        Some(path) if args.record => guard::record(&tables[0], path)?,
        Some(path) => println!("{}", guard::compare(&tables[0], path)?),
        None => {}
    }
    if let Some(path) = &args.json {
        let all: Vec<_> = tables.iter().map(Table::json).collect();
        fs::write(path, format!("{:#}\n", serde_json::Value::from(all)))?;
    }
    if let Some(path) = &args.csv {
        let lines: String = tables.iter().map(Table::csv).collect();
        fs::write(
            path,
            format!("table,contestant,column,round,figure\n{lines}"),
        )?;
    }
    Ok(())
}

fn contestants(args: &Args) -> Result<Vec<Contestant>> {
    let ours = beside("kube-retry-proxy")?;
    let of = |name: &str, kind| Contestant {
        name: name.to_owned(),
        kind,
    };
    let mut all = vec![
        of("direct", Kind::Direct),
        of("HAProxy, up h1", Kind::Haproxy(Protocol::Http1)),
        of("HAProxy, up h2", Kind::Haproxy(Protocol::Http2)),
        of("bare hyper, up h1", Kind::Bare(Protocol::Http1)),
        of("bare hyper, up h2", Kind::Bare(Protocol::Http2)),
        of("nginx", Kind::Nginx),
        of("Envoy, up h2", Kind::Envoy),
        of(
            "kube-retry-proxy, mode Off",
            Kind::Ours(ours.clone(), vec!["--mode=Off".to_owned()]),
        ),
        of("kube-retry-proxy", Kind::Ours(ours, Vec::new())),
    ];
    for variant in &args.variant {
        let (name, command) = variant.split_once('=').context("NAME=PROGRAM")?;
        let mut words = command.split_whitespace().map(str::to_owned);
        let program = words.next().context("NAME=PROGRAM")?;
        let name = format!("kube-retry-proxy, {name}");
        all.push(of(&name, Kind::Ours(program.into(), words.collect())));
    }
    Ok(all)
}
