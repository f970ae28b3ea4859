//! The parts of a comparison: each takes all contestants in turn and makes its tables.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::accounting::{self, Foreign};
use crate::client::{Protocol, Target};
use crate::contestant::{Contestant, Kind, Place, Running};
use crate::instructions::Counter;
use crate::measure::{self, Cell};
use crate::report::Table;
use crate::scale;
use crate::tls::Tls;
use crate::{Args, Part};

/// How many creates each contestant gets that meet conflicts.
const CREATES: usize = 2048;

/// What is compared, and how.
pub(crate) struct Comparison<'a> {
    pub(crate) args: &'a Args,
    pub(crate) place: &'a Place<'a>,
    pub(crate) tls: &'a Tls,
    pub(crate) contestants: &'a [Contestant],
}

impl Comparison<'_> {
    pub(crate) async fn measure(&self, part: Part) -> Result<Vec<Table>> {
        match part {
            Part::Cost => self.cost().await,
            Part::Latency => self.latency().await,
            Part::Watches => self.watches().await,
            Part::Lists => self.lists().await,
            Part::Conflicts => self.conflicts().await,
            Part::Instructions => self.instructions().await,
            Part::Scale => self.scale().await,
        }
    }

    async fn cost(&self) -> Result<Vec<Table>> {
        let Self {
            args, contestants, ..
        } = self;
        let mut cost = Table::new("Processor time", "s for 10,000 requests", true);
        let mut rate = Table::new("Requests", "a second", false);
        let running = self.start(contestants, false)?;
        let cells = Cell::all().into_iter().filter(|cell| {
            args.cells.is_empty() || args.cells.iter().any(|part| cell.name().contains(part))
        });
        let cells: Vec<_> = cells.collect();
        let mut foreign = Foreign::begin(&running)?;
        for round in 0..args.rounds {
            for cell in &cells {
                for each in in_turn(&running, round) {
                    let target = self.target(each, cell.protocol)?;
                    let measured = measure::cost(each, &target, *cell, self.slice());
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

    async fn latency(&self) -> Result<Vec<Table>> {
        let Self {
            args, contestants, ..
        } = self;
        let title = format!("Latency at {} creates a second", measure::RATE);
        let mut table = Table::new(&title, "µs", true);
        let running = self.start(contestants, false)?;
        let mut foreign = Foreign::begin(&running)?;
        for round in 0..args.rounds {
            for protocol in Protocol::ALL {
                for each in in_turn(&running, round) {
                    let measured =
                        measure::latency(&self.target(each, protocol)?, self.slice()).await?;
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

    async fn watches(&self) -> Result<Vec<Table>> {
        let Self {
            args, contestants, ..
        } = self;
        let needed = args.watches as u64 * 2 + 1000;
        if accounting::open_files()? < needed {
            bail!("{} watches need `ulimit -n {needed}`", args.watches);
        }
        let title = format!("{} idle watches", args.watches);
        let mut table = Table::new(&title, "MiB, and KiB each", true);
        for each in *contestants {
            if let Kind::Direct = each.kind {
                continue;
            }
            for protocol in Protocol::ALL {
                let running = each.start(self.place, false, &[])?;
                let measured =
                    measure::watches(&running, &self.target(&running, protocol)?, args.watches)
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

    async fn lists(&self) -> Result<Vec<Table>> {
        let Self {
            args, contestants, ..
        } = self;
        let mut speed = Table::new("Lists of 5 MiB", "MiB a second", false);
        let mut cost = Table::new("Processor time of lists", "s for each GiB", true);
        let running = self.start(contestants, false)?;
        for round in 0..args.rounds {
            for protocol in Protocol::ALL {
                for concurrency in [1, 4] {
                    let column = format!("{} c{concurrency}", protocol.as_str());
                    for each in in_turn(&running, round) {
                        let target = self.target(each, protocol)?;
                        let measured =
                            measure::lists(each, &target, concurrency, self.slice()).await?;
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

    async fn conflicts(&self) -> Result<Vec<Table>> {
        let Self {
            args, contestants, ..
        } = self;
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
        let running = self.start(&replaying, true)?;
        for round in 0..args.rounds {
            for protocol in Protocol::ALL {
                for (at, each) in running.iter().enumerate() {
                    let target = self.target(each, protocol)?;
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

    async fn scale(&self) -> Result<Vec<Table>> {
        let Self {
            args, contestants, ..
        } = self;
        let mut cost = Table::new(
            "GETs on many connections, creates in many namespaces",
            "s for 10,000 requests",
            true,
        );
        let mut memory = Table::new("Memory after creates", "MiB", true);
        let proxies = contestants
            .iter()
            .filter(|each| !matches!(each.kind, Kind::Direct));
        for each in proxies {
            let running = each.start(self.place, false, &[])?;
            let [http1, http2] = Protocol::ALL.map(|protocol| self.target(&running, protocol));
            let (http1, http2) = (http1?, http2?);
            for round in 0..args.rounds {
                for count in scale::CONNECTIONS {
                    let took = scale::connections(&running, &http1, count, self.slice()).await?;
                    cost.add(&each.name, &format!("{count} connections"), took);
                }
                for count in scale::NAMESPACES {
                    let took = scale::namespaces(&running, &http2, count, self.slice()).await?;
                    cost.add(&each.name, &format!("{count} namespaces"), took);
                }
                progress("scale", round, args.rounds);
            }
            drop(running);
            let running = each.start(self.place, false, &[])?;
            let target = self.target(&running, Protocol::Http2)?;
            let occupied = scale::memory(&running, &target).await?;
            for (count, mib) in scale::CREATES.into_iter().zip(occupied) {
                memory.add(&each.name, &format!("{count} creates"), mib);
            }
        }
        Ok(vec![cost, memory])
    }

    async fn instructions(&self) -> Result<Vec<Table>> {
        let Self {
            args, contestants, ..
        } = self;
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
            let counter = Counter::new(self.place.directory);
            let running = each.start(self.place, false, &counter.command())?;
            for cell in Cell::all()
                .into_iter()
                .filter(|cell| cell.concurrency == 32)
            {
                let target = self.target(&running, cell.protocol)?;
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

    fn slice(&self) -> Duration {
        Duration::from_secs_f64(self.args.seconds)
    }

    fn start(&self, contestants: &[Contestant], replaying: bool) -> Result<Vec<Running>> {
        let starting = contestants.iter();
        starting
            .map(|each| each.start(self.place, replaying, &[]))
            .collect()
    }

    fn target(&self, running: &Running, protocol: Protocol) -> Result<Target> {
        Ok(Target {
            address: running.address,
            tls: self.tls.client(protocol)?,
            protocol,
        })
    }
}

/// All of them, another one first in each round.
fn in_turn(running: &[Running], round: usize) -> impl Iterator<Item = &Running> {
    let first = round % running.len().max(1);
    running[first..].iter().chain(&running[..first])
}

fn progress(what: &str, round: usize, rounds: usize) {
    eprintln!("{what}: round {} of {rounds}", round + 1);
}
