//! The cost of the proxy: the same requests directly and through the proxy, in alternating turns,
//! on loopback with TLS on every connection.
//!
//! Client, upstream and proxy share the machine, and each uses up to one CPU. The client and a
//! minimal upstream are threads of this process. The proxy is the real binary, so that `/proc`
//! shows its CPU time. The upstream answers from memory, because the model control plane would use
//! too much time for a create. `bench/README.md` says how to run the benchmark and how to read its
//! results.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at what it did not expect, and prints its table"
)]

#[path = "overhead/client.rs"]
mod client;
#[path = "overhead/load.rs"]
mod load;
#[expect(dead_code, reason = "the machine as a whole is of no interest here")]
mod processors;
#[path = "overhead/proxy.rs"]
mod proxy;
#[path = "overhead/report.rs"]
mod report;
#[path = "overhead/upstream.rs"]
mod upstream;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use http::Version;

use load::{Connected, Load, Turn, Work};
use proxy::Proxy;
use report::{Report, Row};
use upstream::Upstream;

/// Direct and proxied take turns this often in each scenario, so that a noisy neighbour disturbs
/// both.
const ROUNDS: u32 = 20;

/// How many requests, or watches, are in flight at the same time.
const CONCURRENCIES: [usize; 2] = [1, 32];

#[derive(Debug, Parser)]
struct Args {
    /// Seconds for each scenario, both sides together.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Only the scenarios whose name contains this, as in `create, HTTP/2`.
    #[arg(long, default_value = "")]
    only: String,
    /// Writes all figures to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The proxy to measure instead of this build.
    #[arg(long, value_name = "PROGRAM", default_value = env!("CARGO_BIN_EXE_kube-retry-proxy"))]
    proxy: PathBuf,
    /// Compares with this proxy, say an earlier build, instead of with no proxy.
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// What each proxy is started with besides, as in `--proxy-arg=--mode=Off`.
    #[arg(long, value_name = "ARG")]
    proxy_arg: Vec<String>,
    /// What the proxy of `--against` is started with, if not with the same. So two settings of one
    /// build can be compared.
    #[arg(long, value_name = "ARG", requires = "against")]
    against_arg: Vec<String>,
    /// `cargo bench` gives it.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Where a scenario's requests go: to the upstream itself, or through a proxy.
struct Path<'a> {
    upstream: &'a Upstream,
    proxy: Option<&'a Proxy>,
}

fn main() {
    let args = Args::parse();
    let upstream = Upstream::start();
    let start = |program: &PathBuf, with| Proxy::start(program, upstream.server(), with);
    let proxy = start(&args.proxy, &args.proxy_arg);
    let against_arg = if args.against_arg.is_empty() {
        &args.proxy_arg
    } else {
        &args.against_arg
    };
    let against = args.against.as_ref();
    let against = against.map(|program| start(program, against_arg));
    let proxied = Path {
        upstream: &upstream,
        proxy: Some(&proxy),
    };
    let baseline = Path {
        upstream: &upstream,
        proxy: against.as_ref(),
    };
    let slice = Duration::from_secs(args.seconds.into()) / (2 * ROUNDS);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut report = Report::new(if against.is_some() {
        "before"
    } else {
        "direct"
    });
    for load in loads().filter(|load| load.to_string().contains(&args.only)) {
        report.add(runtime.block_on(compared(load, slice, &baseline, &proxied)));
    }
    println!("{report}");
    if let Some(path) = args.json {
        std::fs::write(path, report.json()).expect("the JSON file can be written");
    }
}

fn loads() -> impl Iterator<Item = Load> {
    let works = [Work::Get, Work::Create, Work::Watch];
    let versions = works
        .into_iter()
        .flat_map(|work| [Version::HTTP_11, Version::HTTP_2].map(|version| (work, version)));
    versions.flat_map(|(work, version)| {
        CONCURRENCIES.map(|concurrency| Load {
            work,
            version,
            concurrency,
        })
    })
}

/// Both sides in turns, after one turn each that is not counted.
async fn compared(load: Load, slice: Duration, baseline: &Path<'_>, proxied: &Path<'_>) -> Row {
    let mut before = baseline.connect(load).await;
    let mut after = proxied.connect(load).await;
    baseline.turn(&mut before, slice).await;
    proxied.turn(&mut after, slice).await;
    let mut row = Row::new(load);
    for _ in 0..ROUNDS {
        row.round(
            baseline.turn(&mut before, slice).await,
            proxied.turn(&mut after, slice).await,
        );
    }
    row
}

impl Path<'_> {
    async fn connect(&self, load: Load) -> Connected {
        load.connect(
            self.proxy.map_or(self.upstream.server(), Proxy::server),
            self.upstream,
        )
        .await
    }

    async fn turn(&self, connected: &mut Connected, slice: Duration) -> Turn {
        let processor_time = || self.proxy.map_or(Duration::ZERO, Proxy::processor_time);
        let before = processor_time();
        let turn = connected.run(slice).await;
        Turn {
            processor_time: processor_time() - before,
            ..turn
        }
    }
}
