//! The client: it always has a fixed number of requests in flight and sends a new one as soon as
//! one is answered.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::client::Client;
use crate::upstream::{POD, Upstream, WATCH_ID, Watch};

/// A server, and the certificate authority that verifies it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
}

/// The kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A small object.
    Get,
    /// A pod of 3 KiB: read into memory by the proxy.
    Create,
    /// One event of a watch: sent by the upstream, received by the client.
    Watch,
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) work: Work,
    pub(crate) version: Version,
    pub(crate) concurrency: usize,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let work = match self.work {
            Work::Get => "get",
            Work::Create => "create",
            Work::Watch => "watch event",
        };
        let version = if self.version == Version::HTTP_2 {
            "HTTP/2"
        } else {
            "HTTP/1.1"
        };
        write!(f, "{work}, {version}, {} at a time", self.concurrency)
    }
}

/// The workers of one scenario, connected to one server.
pub(crate) struct Connected(Vec<Worker>);

/// The measurements of one turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub(crate) latencies: Vec<Duration>,
    pub(crate) elapsed: Duration,
    /// The CPU time of the proxy, if there is one.
    pub(crate) processor_time: Duration,
}

enum Worker {
    Request {
        client: Client,
        work: Work,
    },
    Watch {
        watch: Watch,
        answer: Incoming,
        _client: Client,
    },
}

impl Load {
    /// Over HTTP/2 all requests share one connection, as in client-go. Over HTTP/1.1 each worker
    /// has its own connection.
    pub(crate) async fn connect(self, server: &Server, upstream: &Upstream) -> Connected {
        let first = Client::connect(server, self.version).await;
        let mut workers = Vec::with_capacity(self.concurrency);
        for _ in 0..self.concurrency {
            let client = match first.again() {
                Some(shared) => shared,
                None => Client::connect(server, self.version).await,
            };
            workers.push(Worker::start(self.work, client, upstream).await);
        }
        Connected(workers)
    }
}

impl Connected {
    /// Keeps every worker busy for `slice`.
    pub(crate) async fn run(&mut self, slice: Duration) -> Turn {
        let started = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for mut worker in self.0.drain(..) {
            running.spawn(async move {
                let mut latencies = Vec::new();
                while started.elapsed() < slice {
                    latencies.push(worker.once().await);
                }
                (worker, latencies)
            });
        }
        let mut turn = Turn::default();
        while let Some(ended) = running.join_next().await {
            let (worker, latencies) = ended.expect("no worker fails");
            self.0.push(worker);
            turn.latencies.extend(latencies);
        }
        turn.elapsed = started.elapsed();
        turn
    }
}

impl Worker {
    async fn start(work: Work, mut client: Client, upstream: &Upstream) -> Self {
        if work != Work::Watch {
            return Self::Request { client, work };
        }
        let (id, watching) = upstream.expect_watch();
        let mut request = client.request(
            Method::GET,
            "/api/v1/pods?allowWatchBookmarks=true&watch=true",
            Bytes::new(),
        );
        request.headers_mut().insert(WATCH_ID, id.into());
        let answer = client.send(request).await.into_body();
        Self::Watch {
            watch: watching.await.expect("the upstream got the watch"),
            answer,
            _client: client,
        }
    }

    async fn once(&mut self) -> Duration {
        let started = Instant::now();
        match self {
            Self::Request { client, work } => {
                let request = match work {
                    Work::Create => {
                        client.request(Method::POST, "/api/v1/namespaces/argo/pods", POD)
                    }
                    _ => client.request(
                        Method::GET,
                        "/apis/coordination.k8s.io/v1/namespaces/argo/leases/controller",
                        Bytes::new(),
                    ),
                };
                let response = client.send(request).await;
                assert!(response.status().is_success(), "{response:?}");
                read(response.into_body()).await;
            }
            Self::Watch { watch, answer, .. } => {
                let mut expected = watch.tell();
                while expected > 0 {
                    let frame = answer
                        .frame()
                        .await
                        .expect("the watch goes on")
                        .expect("the watch is whole");
                    expected -= frame.data_ref().map_or(0, Bytes::len);
                }
            }
        }
        started.elapsed()
    }
}

async fn read(mut body: Incoming) {
    while let Some(frame) = body.frame().await {
        frame.expect("the answer is whole");
    }
}
