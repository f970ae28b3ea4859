//! What a case consists of: an upstream, a proxy before it, neighbours, and what was found out.

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

/// How much of an abuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Enough to see the fault, in plain `cargo test`.
    Short,
    /// As the issue has it.
    Full,
}

impl Size {
    pub fn of(self, short: usize, full: usize) -> usize {
        if self == Size::Short { short } else { full }
    }
}

/// What no request may look like: in words, and in code.
type Forbidden = (&'static str, fn(&Record) -> bool);

/// What a case found.
#[derive(Debug, Default)]
pub struct Outcome {
    pub tally: Tally,
    pub peak_kib: u64,
    pub after_kib: u64,
    pub log_bytes: u64,
    /// What the case itself requires and did not find, beside its neighbours.
    pub faults: Vec<String>,
    /// Figures worth telling, whatever they are.
    pub notes: Vec<String>,
}

impl Outcome {
    /// All that is wrong.
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
    /// How abusers reach the proxy: from another address than neighbours.
    abusers: Dialer,
    forbidden: Vec<Forbidden>,
    neighbours: Vec<Neighbour>,
    faults: Vec<String>,
    notes: Vec<String>,
}

impl Lab {
    /// One upstream, which runs `abused` for all that does not come from neighbours.
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

    /// As many upstreams as protocols, all with one store.
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

    /// A proxy whose upstream is at `address`, whatever that is.
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

    /// For abusers.
    pub fn dialer(&self) -> &Dialer {
        &self.abusers
    }

    /// Neighbours over both protocols, with connections of their own.
    pub async fn neighbours(&mut self) {
        for protocol in Protocol::BOTH {
            self.neighbours
                .push(Neighbour::start(&self.proxy.dialer, &self.journal, protocol).await);
        }
    }

    /// A neighbour on the same connection as the abuse.
    pub async fn neighbour_on(&mut self, connection: &http2::Client) {
        self.neighbours
            .push(Neighbour::on(connection, &self.proxy.dialer, &self.journal).await);
    }

    /// Lets each neighbour go so many rounds more.
    pub async fn neighbours_go_round(&self, rounds: usize) {
        for neighbour in &self.neighbours {
            neighbour.goes_round(rounds).await;
        }
    }

    /// Something that has to be so, told with what was found where it is not.
    pub fn require(&mut self, so: bool, found: impl Into<String>) {
        if !so {
            self.faults.push(found.into());
        }
    }

    /// Something that no request may look like at the upstreams when all is over.
    pub fn forbid(&mut self, what: &'static str, is_so: fn(&Record) -> bool) {
        self.forbidden.push((what, is_so));
    }

    /// A figure for the report.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Waits until the upstreams get rid of nothing more, of what abusers asked for: nobody reads
    /// it. It makes the abuse, and judges nothing.
    pub async fn stands_still(&self) {
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

    /// Waits until so many requests with `part` in their path came to the upstreams; in time, or it
    /// is a fault.
    pub async fn arrived(&mut self, part: &str, count: usize) {
        let journal = Arc::clone(&self.journal);
        if !eventually(|| journal.count(part) >= count).await {
            self.faults.push(format!(
                "{} of {count} requests for {part} arrived",
                journal.count(part)
            ));
        }
    }

    /// Lets the neighbours finish while the abuse goes on, then ends it, and takes the figures.
    pub async fn finish(mut self, abuse: impl Sized) -> Outcome {
        let mut tally = Tally::default();
        for neighbour in self.neighbours.drain(..) {
            tally.add(neighbour.finish().await);
        }
        drop(abuse);
        if self.size == Size::Full {
            // What the memory table says of the time after it.
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

/// Whether something becomes so in time.
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

/// The result, if it comes in time.
pub async fn in_time<T>(what: impl Future<Output = T>) -> Option<T> {
    timeout(PATIENCE, what).await.ok()
}

/// What an apiserver does: stores creates, confirms what is put, gives its watches the journal's
/// events.
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
