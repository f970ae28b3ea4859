//! A client that behaves well during an abuse: it creates pods, renews its lease, watches, and
//! opens new connections. It counts the requests that fail.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::journal::Journal;
use crate::peers::http1::{self, Framing};
use crate::peers::tls::Dialer;
use crate::peers::{Answer, Ask, Broken, Protocol, http2, pod};
use crate::proxy::PATIENCE;

/// The number of requests of a neighbour, and the failed ones.
#[derive(Debug, Default)]
pub struct Tally {
    pub asked: usize,
    pub missed: Vec<String>,
}

impl Tally {
    pub fn served(&self) -> usize {
        self.asked - self.missed.len()
    }

    pub fn add(&mut self, other: Tally) {
        self.asked += other.asked;
        self.missed.extend(other.missed);
    }

    fn note(&mut self, what: &str, outcome: Result<(), String>) {
        self.asked += 1;
        if let Err(why) = outcome {
            self.missed.push(format!("{what}: {why}"));
        }
    }
}

/// A running neighbour.
pub struct Neighbour {
    stop: oneshot::Sender<()>,
    rounds: watch::Receiver<usize>,
    working: JoinHandle<Tally>,
}

impl Neighbour {
    /// Starts a neighbour with its own connections, and waits for its first round.
    pub async fn start(dialer: &Dialer, journal: &Arc<Journal>, protocol: Protocol) -> Self {
        let way = match protocol {
            Protocol::Http1 => Way::Http1(dialer.clone()),
            Protocol::Http2 => Way::Http2(http2::Client::connect(dialer).await.unwrap()),
        };
        Self::begin(
            dialer,
            journal,
            way,
            format!("neighbour-{protocol:?}").to_lowercase(),
        )
        .await
    }

    /// Starts a neighbour on another client's connection.
    pub async fn on(connection: &http2::Client, dialer: &Dialer, journal: &Arc<Journal>) -> Self {
        Self::begin(
            dialer,
            journal,
            Way::Http2(connection.clone()),
            "neighbour-shared".to_owned(),
        )
        .await
    }

    async fn begin(dialer: &Dialer, journal: &Arc<Journal>, way: Way, name: String) -> Self {
        let mut worker = Worker {
            way,
            dialer: dialer.clone(),
            journal: Arc::clone(journal),
            name,
            round: 0,
            tally: Tally::default(),
            watch: None,
        };
        worker.round().await;
        let (stop, mut stopped) = oneshot::channel();
        let (told, rounds) = watch::channel(0);
        let working = tokio::spawn(async move {
            // The pause keeps the neighbour from being a load itself.
            while timeout(Duration::from_millis(250), &mut stopped)
                .await
                .is_err()
            {
                worker.round().await;
                told.send_modify(|rounds| *rounds += 1);
            }
            worker.round().await;
            worker.tally
        });
        Self {
            stop,
            rounds,
            working,
        }
    }

    /// Waits for this many more rounds.
    pub async fn goes_round(&self, more: usize) {
        let mut rounds = self.rounds.clone();
        let now = *rounds.borrow();
        let _done = rounds.wait_for(|rounds| *rounds >= now + more).await;
    }

    /// Ends the neighbour after one more round.
    pub async fn finish(self) -> Tally {
        let _working = self.stop.send(());
        self.working.await.unwrap()
    }
}

enum Way {
    Http1(Dialer),
    Http2(http2::Client),
}

enum Watch {
    Http1(Box<http1::Client>, Framing),
    Http2(h2::RecvStream),
}

struct Worker {
    way: Way,
    dialer: Dialer,
    journal: Arc<Journal>,
    name: String,
    round: usize,
    tally: Tally,
    watch: Option<Watch>,
}

impl Worker {
    async fn round(&mut self) {
        self.round += 1;
        let (name, round) = (self.name.clone(), self.round);
        let namespace = format!("/api/v1/namespaces/{name}");
        let created = self
            .call(
                &Ask::create(&name),
                &pod(&format!("{name}-{round}"), 2000),
                201,
            )
            .await;
        self.tally.note("create", created);
        let lease = Ask::put(format!(
            "/apis/coordination.k8s.io/v1/namespaces/{name}/leases/leader"
        ));
        let renewed = self.call(&lease, &pod("leader", 500), 200).await;
        self.tally.note("lease", renewed);
        let seen = match timeout(PATIENCE, self.event(&namespace)).await {
            Ok(outcome) => outcome,
            Err(_) => Err("no event".to_owned()),
        };
        if seen.is_err() {
            self.watch = None;
        }
        self.tally.note("watch", seen);
        let dialer = self.dialer.clone();
        let came = answered(200, async {
            http1::Client::connect(&dialer)
                .await?
                .call(&Ask::get("/version?neighbour"), b"")
                .await
        })
        .await;
        self.tally.note("new client", came);
    }

    async fn call(&self, ask: &Ask, body: &[u8], expected: u16) -> Result<(), String> {
        answered(expected, async {
            match &self.way {
                Way::Http1(dialer) => http1::Client::connect(dialer).await?.call(ask, body).await,
                Way::Http2(client) => client.call(ask, body).await,
            }
        })
        .await
    }

    /// Makes the upstream send an event, and waits for it. The watch stays open over all rounds
    /// unless it fails.
    async fn event(&mut self, namespace: &str) -> Result<(), String> {
        if self.watch.is_none() {
            let ask = Ask::get(format!("{namespace}/pods?watch=true"));
            let opened = match &self.way {
                Way::Http1(dialer) => Self::watch1(dialer, &ask).await,
                Way::Http2(client) => Self::watch2(client, &ask).await,
            };
            self.watch = Some(opened.map_err(|Broken(why)| format!("not opened: {why}"))?);
        }
        let event = format!("event-{}-{}.", self.name, self.round);
        self.journal
            .events
            .send(event.clone())
            .map_err(|_| "the upstream has no watch".to_owned())?;
        let mut seen = String::new();
        while !seen.contains(&event) {
            let piece = match self.watch.as_mut().unwrap() {
                Watch::Http1(client, framing) => client
                    .wire
                    .piece(framing)
                    .await
                    .map_err(|error| error.to_string())?,
                Watch::Http2(stream) => http2::next(stream)
                    .await
                    .transpose()
                    .map_err(|error| error.to_string())?,
            };
            seen.push_str(&String::from_utf8_lossy(&piece.ok_or("the watch ended")?));
        }
        Ok(())
    }

    async fn watch1(dialer: &Dialer, ask: &Ask) -> Result<Watch, Broken> {
        let mut client = http1::Client::connect(dialer).await?;
        client.send(ask, b"").await?;
        let (_, _, framing) = client.answer_head(&Method::GET).await?;
        Ok(Watch::Http1(Box::new(client), framing))
    }

    async fn watch2(client: &http2::Client, ask: &Ask) -> Result<Watch, Broken> {
        Ok(Watch::Http2(
            client.send(ask, b"").await?.await?.into_body(),
        ))
    }
}

/// Whether a complete answer with this status arrives in time.
async fn answered(
    expected: u16,
    asked: impl Future<Output = Result<Answer, Broken>>,
) -> Result<(), String> {
    match timeout(PATIENCE, asked).await {
        Err(_) => Err("no answer".to_owned()),
        Ok(Err(Broken(why))) => Err(why),
        Ok(Ok(answer)) if !answer.whole => Err(format!("half a {}", answer.status)),
        Ok(Ok(answer)) if answer.status != expected => Err(format!(
            "{} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        )),
        Ok(Ok(_)) => Ok(()),
    }
}
