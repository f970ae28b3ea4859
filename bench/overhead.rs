//! What the proxy costs: the same requests direct and through the proxy, in turns, on loopback with TLS on every connection.
//!
//! Three processors' worth of work share the machine, each on one thread or process of its own: the client and a minimal upstream (both
//! here) and the proxy (the real binary, so that `/proc` tells its processor time). The upstream answers from memory: what the model
//! control plane does for a create would hide what is to be measured. `bench/README.md` says how to run this and how to read it.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a bench stops at what it did not expect, and prints its table")]

#[path = "overhead/client.rs"]
mod client;
#[path = "overhead/load.rs"]
mod load;
#[path = "overhead/proxy.rs"]
mod proxy;
#[path = "overhead/report.rs"]
mod report;
#[expect(dead_code, unreachable_pub, clippy::panic, clippy::unwrap_used, reason = "the tests' own")]
#[path = "../tests/it/support.rs"]
mod support;
#[path = "overhead/upstream.rs"]
mod upstream;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use load::{Load, Work};
use proxy::Proxy;
use report::{Report, Row};
use upstream::Upstream;

/// Direct and proxied take turns this often in each scenario, so that a noisy neighbour disturbs both.
const ROUNDS: u32 = 20;

/// How many requests, or watches, are in flight at the same time.
const CONCURRENCIES: [usize; 2] = [1, 32];

#[derive(Debug, Parser)]
struct Args {
    /// Seconds for each scenario, direct and proxied together.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Only the scenarios whose name contains this, as in `create, HTTP/2`.
    #[arg(long, default_value = "")]
    only: String,
    /// Writes all figures to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What the proxy is started with besides, as in `--proxy-arg=--mode=Off`.
    #[arg(long, value_name = "ARG")]
    proxy_arg: Vec<String>,
    /// `cargo bench` gives it.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let upstream = Upstream::start();
    let proxy = Proxy::start(upstream.server(), &args.proxy_arg);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut report = Report::new();
    for work in [Work::Get, Work::Create, Work::Watch] {
        for protocol in support::BOTH {
            for concurrency in CONCURRENCIES {
                let load = Load { work, protocol, concurrency };
                if load.to_string().contains(&args.only) {
                    let slice = Duration::from_secs(args.seconds.into()) / (2 * ROUNDS);
                    report.add(runtime.block_on(compared(load, slice, &upstream, &proxy)));
                }
            }
        }
    }
    println!("{report}");
    if let Some(path) = args.json {
        std::fs::write(path, report.json()).expect("the JSON file can be written");
    }
}

/// Both sides in turns, after one turn each that is not counted.
async fn compared(load: Load, slice: Duration, upstream: &Upstream, proxy: &Proxy) -> Row {
    let mut direct = load.connect(upstream.server(), upstream).await;
    let mut proxied = load.connect(proxy.server(), upstream).await;
    direct.run(slice).await;
    proxied.run(slice).await;
    let mut row = Row::new(load);
    for _ in 0..ROUNDS {
        let alone = direct.run(slice).await;
        let before = proxy.processor_time();
        let through = proxied.run(slice).await;
        row.round(alone, through, proxy.processor_time() - before);
    }
    row
}
