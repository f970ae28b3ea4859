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
mod install;
mod instructions;
mod measure;
mod plot;
mod report;
mod stub;
mod tls;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use tempfile::TempDir;

use client::{Protocol, Target};
use contestant::{Contestant, Kind, Place, Running, beside};
use instructions::Counter;
use measure::Cell;
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
}

impl Part {
    const ALL: [Self; 6] = [
        Self::Cost,
        Self::Latency,
        Self::Watches,
        Self::Lists,
        Self::Conflicts,
        Self::Instructions,
    ];
}

/// How many creates each contestant gets that meet conflicts.
const CREATES: usize = 2048;

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
    let directory = TempDir::new()?;
    let tls = Tls::make(directory.path())?;
    let place = Place {
        directory: directory.path(),
        upstream: stub::start(tls.server()?).await?,
        haproxy: install::debian("haproxy", "haproxy")?,
        nginx: install::debian("nginx", "nginx-light")?,
        envoy: install::envoy(&args.install)?,
    };
    println!("{}", versions(&place)?);
    let contestants: Vec<_> = contestants(args)?
        .into_iter()
        .filter(|each| {
            args.contestants.is_empty()
                || args.contestants.iter().any(|part| each.name.contains(part))
        })
        .collect();
    let parts = if args.only.is_empty() {
        Part::ALL.to_vec()
    } else {
        args.only.clone()
    };
    let mut tables = Vec::new();
    for part in parts {
        let measured = part.measure(args, &place, &tls, &contestants).await?;
        for table in &measured {
            println!("{}", table.markdown());
        }
        if let (Part::Cost, Some(path)) = (part, &args.svg) {
            fs::write(path, plot::svg(&measured[0]))?;
        }
        tables.extend(measured);
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

impl Part {
    async fn measure(
        self,
        args: &Args,
        place: &Place<'_>,
        tls: &Tls,
        contestants: &[Contestant],
    ) -> Result<Vec<Table>> {
        let slice = Duration::from_secs_f64(args.seconds);
        match self {
            Self::Cost => cost(args, place, tls, contestants, slice).await,
            Self::Latency => latency(args, place, tls, contestants, slice).await,
            Self::Watches => watches(args, place, tls, contestants).await,
            Self::Lists => lists(args, place, tls, contestants, slice).await,
            Self::Conflicts => conflicts(args, place, tls, contestants).await,
            Self::Instructions => instructions(args, place, tls, contestants).await,
        }
    }
}

async fn cost(
    args: &Args,
    place: &Place<'_>,
    tls: &Tls,
    contestants: &[Contestant],
    slice: Duration,
) -> Result<Vec<Table>> {
    let mut cost = Table::new("Processor time", "s for 10,000 requests", true);
    let mut rate = Table::new("Requests", "a second", false);
    let running = start(place, contestants, false)?;
    let cells = Cell::all().into_iter().filter(|cell| {
        args.cells.is_empty() || args.cells.iter().any(|part| cell.name().contains(part))
    });
    let cells: Vec<_> = cells.collect();
    let mut foreign = Foreign::begin(&running)?;
    for round in 0..args.rounds {
        for cell in &cells {
            for each in in_turn(&running, round) {
                let target = target(each, tls, cell.protocol)?;
                let measured = measure::cost(each, &target, *cell, slice);
                let measured = measured
                    .await
                    .with_context(|| format!("{}, {}", each.name, cell.name()))?;
                if each.process().is_some() {
                    cost.add(&each.name, &cell.name(), measured.per_10k);
                }
                rate.add(&each.name, &cell.name(), measured.per_second);
            }
        }
        progress("processor time", round, args.rounds);
    }
    println!("{}", foreign.end(&running)?);
    Ok(vec![cost, rate])
}

async fn latency(
    args: &Args,
    place: &Place<'_>,
    tls: &Tls,
    contestants: &[Contestant],
    slice: Duration,
) -> Result<Vec<Table>> {
    let title = format!("Latency at {} creates a second", measure::RATE);
    let mut table = Table::new(&title, "µs", true);
    let running = start(place, contestants, false)?;
    let mut foreign = Foreign::begin(&running)?;
    for round in 0..args.rounds {
        for protocol in Protocol::ALL {
            for each in in_turn(&running, round) {
                let measured = measure::latency(&target(each, tls, protocol)?, slice).await?;
                for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                    let column = format!("{} {name}", protocol.as_str());
                    table.add(&each.name, &column, measured.quantile(quantile));
                }
            }
        }
        progress("latency", round, args.rounds);
    }
    println!("{}", foreign.end(&running)?);
    Ok(vec![table])
}

async fn watches(
    args: &Args,
    place: &Place<'_>,
    tls: &Tls,
    contestants: &[Contestant],
) -> Result<Vec<Table>> {
    let needed = args.watches as u64 * 2 + 1000;
    if accounting::open_files()? < needed {
        bail!("{} watches need `ulimit -n {needed}`", args.watches);
    }
    let title = format!("{} idle watches", args.watches);
    let mut table = Table::new(&title, "MiB, and KiB each", true);
    for each in contestants {
        if let Kind::Direct = each.kind {
            continue;
        }
        for protocol in Protocol::ALL {
            let running = each.start(place, false, &[])?;
            let measured =
                measure::watches(&running, &target(&running, tls, protocol)?, args.watches)
                    .await
                    .with_context(|| format!("{} over {}", each.name, protocol.as_str()))?;
            let column = |what| format!("{} {what}", protocol.as_str());
            table.add(&each.name, "idle MiB", measured.idle);
            table.add(&each.name, &column("MiB"), measured.open);
            table.add(&each.name, &column("KiB each"), measured.each);
            eprintln!("watches: {} over {}", each.name, protocol.as_str());
        }
    }
    Ok(vec![table])
}

async fn lists(
    args: &Args,
    place: &Place<'_>,
    tls: &Tls,
    contestants: &[Contestant],
    slice: Duration,
) -> Result<Vec<Table>> {
    let mut speed = Table::new("Lists of 5 MiB", "MiB a second", false);
    let mut cost = Table::new("Processor time of lists", "s for each GiB", true);
    let running = start(place, contestants, false)?;
    for round in 0..args.rounds {
        for protocol in Protocol::ALL {
            for concurrency in [1, 4] {
                let column = format!("{} c{concurrency}", protocol.as_str());
                for each in in_turn(&running, round) {
                    let target = target(each, tls, protocol)?;
                    let measured = measure::lists(each, &target, concurrency, slice).await?;
                    speed.add(&each.name, &column, measured.mib_per_second);
                    if each.process().is_some() {
                        cost.add(&each.name, &column, measured.per_gib);
                    }
                }
            }
        }
        progress("lists", round, args.rounds);
    }
    Ok(vec![speed, cost])
}

async fn conflicts(
    args: &Args,
    place: &Place<'_>,
    tls: &Tls,
    contestants: &[Contestant],
) -> Result<Vec<Table>> {
    let mut table = Table::new(
        "Two conflicts for each create, pauses of at most 1 ms",
        "% created, µs, and processor s for 10,000 creates",
        true,
    );
    let replaying: Vec<_> = contestants
        .iter()
        .filter(|each| !matches!(each.kind, Kind::Bare(_) | Kind::Nginx))
        .cloned()
        .collect();
    let running = start(place, &replaying, true)?;
    for round in 0..args.rounds {
        for protocol in Protocol::ALL {
            for (at, each) in running.iter().enumerate() {
                let target = target(each, tls, protocol)?;
                let salt = (round * 2 + protocol as usize) * running.len() + at;
                let measured = measure::conflicts(each, &target, CREATES, salt).await?;
                let column = |what| format!("{} {what}", protocol.as_str());
                let created = measured.created as f64 / measured.creates as f64;
                table.add(&each.name, &column("created"), created * 100.0);
                for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                    table.add(
                        &each.name,
                        &column(name),
                        measured.latencies.quantile(quantile),
                    );
                }
                table.add(&each.name, &column("processor"), measured.per_10k);
            }
        }
        progress("conflicts", round, args.rounds);
    }
    Ok(vec![table])
}

async fn instructions(
    args: &Args,
    place: &Place<'_>,
    tls: &Tls,
    contestants: &[Contestant],
) -> Result<Vec<Table>> {
    let mut table = Table::new(
        "Instructions outside of the kernel, one request at a time",
        "thousands for each request",
        true,
    );
    // Envoy takes minutes to start under Valgrind.
    for each in contestants
        .iter()
        .filter(|each| !matches!(each.kind, Kind::Direct | Kind::Envoy))
    {
        let counter = Counter::new(place.directory);
        let running = each.start(place, false, &counter.command())?;
        for cell in Cell::all()
            .into_iter()
            .filter(|cell| cell.concurrency == 32)
        {
            let target = target(&running, tls, cell.protocol)?;
            let counted = measure::instructions(&running, &target, cell, &counter).await;
            let counted =
                counted.with_context(|| format!("{}, {}", each.name, cell.short_name()))?;
            table.add(&each.name, &cell.short_name(), counted / 1e3);
        }
        if let Some(keep) = &args.profiles {
            counter.keep(keep, &each.name)?;
        }
        eprintln!("instructions: {}", each.name);
    }
    Ok(vec![table])
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

fn start(place: &Place<'_>, contestants: &[Contestant], replaying: bool) -> Result<Vec<Running>> {
    let starting = contestants.iter();
    starting
        .map(|each| each.start(place, replaying, &[]))
        .collect()
}

/// All of them, another one first in each round.
fn in_turn(running: &[Running], round: usize) -> impl Iterator<Item = &Running> {
    let first = round % running.len().max(1);
    running[first..].iter().chain(&running[..first])
}

fn target(running: &Running, tls: &Tls, protocol: Protocol) -> Result<Target> {
    Ok(Target {
        address: running.address,
        tls: tls.client(protocol)?,
        protocol,
    })
}

fn versions(place: &Place<'_>) -> Result<String> {
    let ours = beside("kube-retry-proxy")?;
    let said = [
        install::version(&place.haproxy, "-v")?,
        install::version(&place.nginx, "-v")?,
        install::version(&place.envoy, "--version")?,
        install::version(&ours, "--version")?,
    ];
    Ok(said.join("\n") + "\n")
}

fn progress(what: &str, round: usize, rounds: usize) {
    eprintln!("{what}: round {} of {rounds}", round + 1);
}

/// What others used of the machine during a measurement.
struct Foreign {
    machine: f64,
    own: f64,
    begun: std::time::Instant,
}

impl Foreign {
    fn begin(running: &[Running]) -> Result<Self> {
        Ok(Self {
            machine: accounting::machine()?,
            own: own(running)?,
            begun: std::time::Instant::now(),
        })
    }

    fn end(&mut self, running: &[Running]) -> Result<String> {
        let all = accounting::machine()? - self.machine;
        let foreign = all - (own(running)? - self.own);
        let share = foreign / self.begun.elapsed().as_secs_f64();
        Ok(format!(
            "Other processes used {share:.2} of the two processors.\n"
        ))
    }
}

/// The processor time of this process and of all contestants.
fn own(running: &[Running]) -> Result<f64> {
    let contestants = running.iter().filter_map(Running::process);
    let mut sum = accounting::processor_time(std::process::id())?;
    for process in contestants {
        sum += accounting::processor_time(process)?;
    }
    Ok(sum)
}
