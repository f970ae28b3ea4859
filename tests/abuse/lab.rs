//! The parts of a case: upstreams, a proxy in front of them, neighbours, and the findings.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::journal::{Journal, Record};
use crate::neighbour::{Neighbour, Tally};
use crate::peers::tls::{Dialer, Pki};
use crate::peers::upstream::{Exchange, Script, Upstream, script};
use crate::peers::{Protocol, http2};
use crate::proxy::{Configuration, PATIENCE, Proxy};

/// The size of an abuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Large enough to show the fault; runs in plain `cargo test`.
    Short,
    /// The size of the original report.
    Full,
}

impl Size {
    pub fn of(self, short: usize, full: usize) -> usize {
        if self == Size::Short { short } else { full }
    }
}

/// A description of a forbidden kind of request, and a test for it.
type Forbidden = (&'static str, fn(&Record) -> bool);

/// The findings of a case.
#[derive(Debug, Default)]
pub struct Outcome {
    pub tally: Tally,
    pub peak_kib: u64,
    pub after_kib: u64,
    pub log_bytes: u64,
    /// Failed requirements of the case itself, in addition to the neighbours.
    pub faults: Vec<String>,
    /// Figures for the report.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Everything that is wrong.
    pub fn found(&self) -> Vec<String> {
        let mut found = self.faults.clone();
        if !self.tally.missed.is_empty() {
            found.push(format!(
                "{} of {} services missed: {}",
                self.tally.missed.len(),
                self.tally.asked,
                self.tally.missed.join(", ")
            ));
        }
        found
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (served, asked) = (self.tally.served(), self.tally.asked);
        write!(
            f,
            "served {served} of {asked}, peak {} MiB, after {} MiB",
            self.peak_kib >> 10,
            self.after_kib >> 10
        )?;
        write!(
            f,
            ", log {} KiB; {}",
            self.log_bytes >> 10,
            self.notes.join("; ")
        )
    }
}

pub struct Lab {
    pub size: Size,
    pub journal: Arc<Journal>,
    pub upstreams: Vec<Upstream>,
    pub proxy: Proxy,
    /// Abusers connect from a different address than neighbours.
    abusers: Dialer,
    forbidden: Vec<Forbidden>,
    neighbours: Vec<Neighbour>,
    faults: Vec<String>,
    notes: Vec<String>,
}

impl Lab {
    /// One upstream. It runs `abused` for all requests that do not come from neighbours.
    pub async fn start<F>(
        size: Size,
        protocol: Protocol,
        abused: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(size, &[protocol], Configuration::default(), script(abused)).await
    }

    /// One upstream for each protocol, with a common store.
    pub async fn with(
        size: Size,
        protocols: &[Protocol],
        configuration: Configuration,
        abused: Script,
    ) -> Self {
        let (pki, journal) = (Pki::new(), Arc::new(Journal::new()));
        let mut upstreams = Vec::new();
        for protocol in protocols {
            let abused = Arc::clone(&abused);
            let script = script(move |exchange: Exchange| {
                let abused = Arc::clone(&abused);
                async move {
                    if exchange.path.contains("neighbour") {
                        ordinary(exchange).await
                    } else {
                        abused(exchange).await
                    }
                }
            });
            upstreams.push(Upstream::start(&pki, *protocol, Arc::clone(&journal), script).await);
        }
        let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
        let proxy = Proxy::start(&pki, &addresses, &configuration).await;
        Self::of(size, journal, upstreams, proxy)
    }

    /// A proxy whose upstream is at `address`.
    pub async fn leading_to(size: Size, address: SocketAddr) -> Self {
        let pki = Pki::new();
        let configuration = Configuration {
            served_as_upstream: true,
            ..Configuration::default()
        };
        let proxy = Proxy::start(&pki, &[address], &configuration).await;
        Self::of(size, Arc::new(Journal::new()), Vec::new(), proxy)
    }

    fn of(size: Size, journal: Arc<Journal>, upstreams: Vec<Upstream>, proxy: Proxy) -> Self {
        let abusers = proxy.dialer.from(2);
        let (forbidden, neighbours, faults, notes) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self {
            size,
            journal,
            upstreams,
            proxy,
            abusers,
            forbidden,
            neighbours,
            faults,
            notes,
        }
    }

    /// The connections of abusers.
    pub fn dialer(&self) -> &Dialer {
        &self.abusers
    }

    /// Starts neighbours over both protocols, with their own connections.
    pub async fn neighbours(&mut self) {
        for protocol in Protocol::BOTH {
            self.neighbours
                .push(Neighbour::start(&self.proxy.dialer, &self.journal, protocol).await);
        }
    }

    /// Starts a neighbour on the connection of the abuse.
    pub async fn neighbour_on(&mut self, connection: &http2::Client) {
        self.neighbours
            .push(Neighbour::on(connection, &self.proxy.dialer, &self.journal).await);
    }

    /// Waits until each neighbour has completed this many more rounds.
    pub async fn neighbours_go_round(&self, rounds: usize) {
        for neighbour in &self.neighbours {
            neighbour.goes_round(rounds).await;
        }
    }

    /// Records a fault if the requirement `so` does not hold.
    pub fn require(&mut self, so: bool, found: impl Into<String>) {
        if !so {
            self.faults.push(found.into());
        }
    }

    /// Forbids a kind of request. The upstreams' journal is checked at the end.
    pub fn forbid(&mut self, what: &'static str, is_so: fn(&Record) -> bool) {
        self.forbidden.push((what, is_so));
    }

    /// Adds a figure to the report.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Waits until the upstreams cannot send more to abusers, because nobody reads. This only makes
    /// the abuse; no check depends on it.
    pub async fn wait_until_stalled(&self) {
        let (mut before, mut still) = (self.journal.moved(), 0);
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = self.journal.moved();
            still = if now == before { still + 1 } else { 0 };
            before = now;
            if still >= 8 {
                break;
            }
        }
    }

    /// Waits until `count` requests whose path contains `part` have reached the upstreams. It is a
    /// fault if that takes too long.
    pub async fn arrived(&mut self, part: &str, count: usize) {
        let journal = Arc::clone(&self.journal);
        if !eventually(|| journal.count(part) >= count).await {
            self.faults.push(format!(
                "{} of {count} requests for {part} arrived",
                journal.count(part)
            ));
        }
    }

    /// Lets the neighbours finish while the abuse continues, then ends the abuse and collects the
    /// figures.
    pub async fn finish(mut self, abuse: impl Sized) -> Outcome {
        let mut tally = Tally::default();
        for neighbour in self.neighbours.drain(..) {
            tally.add(neighbour.finish().await);
        }
        drop(abuse);
        if self.size == Size::Full {
            // The memory table has a column for this moment.
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        let running = self.proxy.is_running();
        self.require(running, format!("the proxy ended:\n{}", self.proxy.log()));
        self.forbid("that broke off arrived as whole", Record::is_cut_but_whole);
        for (what, is_so) in std::mem::take(&mut self.forbidden) {
            let (found, all) = self.journal.count_such(is_so);
            self.require(found == 0, format!("{found} of {all} requests {what}"));
        }
        let twice = self.journal.stored_twice();
        self.require(twice.is_empty(), format!("stored twice: {twice:?}"));
        let (peak_kib, after_kib, log_bytes) = (
            self.proxy.peak_kib(),
            self.proxy.memory_kib(),
            self.proxy.log_bytes(),
        );
        Outcome {
            tally,
            peak_kib,
            after_kib,
            log_bytes,
            faults: self.faults,
            notes: self.notes,
        }
    }
}

/// Waits until the condition holds. Returns false if that takes too long.
pub async fn eventually(mut is_so: impl FnMut() -> bool) -> bool {
    let since = Instant::now();
    while !is_so() {
        if since.elapsed() > PATIENCE {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    true
}

/// The result of the future, or `None` if it takes too long.
pub async fn in_time<T>(what: impl Future<Output = T>) -> Option<T> {
    timeout(PATIENCE, what).await.ok()
}

/// The behaviour of an ordinary apiserver: stores creates, answers puts, and sends the journal's
/// events to watches.
pub async fn ordinary(mut exchange: Exchange) {
    let journal = Arc::clone(&exchange.journal);
    if exchange.path.contains("watch=true") {
        let mut events = journal.events.subscribe();
        if exchange
            .head(200, &[("content-type", "application/json")])
            .await
            .is_err()
        {
            return;
        }
        while let Ok(event) = events.recv().await {
            if exchange.send(event).await.is_err() {
                return;
            }
        }
        return;
    }
    let (body, whole) = exchange.body().await;
    if !whole {
        return;
    }
    if exchange.method == http::Method::POST {
        if let Some(name) = journal.record(exchange.entry).name {
            journal.store(&name);
        }
        return exchange.answer(201, body).await;
    }
    exchange
        .answer(200, if body.is_empty() { "{}".into() } else { body })
        .await;
}
