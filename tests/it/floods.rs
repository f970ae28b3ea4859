//! Clients that flood the real executable. Its memory use and its log stay small, and other clients
//! are served.

use http::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::executable::{Place, Served};
use crate::support::frames::Frames;
use crate::support::raw::Raw;
use crate::support::{Client, Protocol, soon, tls_stream, try_tls_stream};

/// The largest growth of the log under one abuse.
const LINES: usize = 4 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_rapid_reset_harms_nobody() {
    const ROUNDS: usize = 150;
    let flood = Flood::new().await;
    let mut neighbour = flood.client().await;
    let mut client = flood.frames().await;
    let before = flood.kibibytes();
    for round in 0..ROUNDS {
        let burst: Vec<u8> = (0..200)
            .flat_map(|_| client.cancelled("/api/v1/namespaces/team/pods"))
            .collect();
        client.write(&burst).await;
        assert!(
            client.answered("/livez").await,
            "round {round}: {:?}",
            client.error
        );
        if round % 10 == 0 {
            assert_eq!(
                neighbour.create(&format!("beside-{round}")).await.status,
                StatusCode::CREATED
            );
        }
    }
    flood.assert_small(before, 32 << 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rapid_reset_without_pause_ends_its_own_connection_at_most() {
    let flood = Flood::new().await;
    let mut neighbour = flood.client().await;
    let before = flood.kibibytes();
    for round in 0..10 {
        let mut client = flood.frames().await;
        let burst: Vec<u8> = (0..20_000)
            .flat_map(|_| client.cancelled("/api/v1/namespaces/team/pods"))
            .collect();
        // An error means that the connection has ended.
        let _ = client.try_write(&burst).await;
        client.settled().await;
        assert_eq!(
            neighbour.create(&format!("beside-{round}")).await.status,
            StatusCode::CREATED
        );
    }
    flood.assert_small(before, 32 << 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_unpack_to_a_hundred_times_their_size_are_not_in_memory_all_at_once() {
    // `accept-charset` without a value, from HPACK's static table: one byte on the wire, at least
    // 72 in memory.
    let small = [0x80 | 15; 2000];
    let flood = Flood::new().await;
    let mut neighbour = flood.client().await;
    let before = flood.kibibytes();
    for round in 0..4 {
        let mut client = flood.frames().await;
        let burst: Vec<u8> = (0..900)
            .flat_map(|_| client.cancelled_with("/api/v1/namespaces/team/pods", &small))
            .collect();
        let _ = client.try_write(&burst).await;
        client.settled().await;
        assert_eq!(
            neighbour.create(&format!("beside-{round}")).await.status,
            StatusCode::CREATED
        );
    }
    flood.assert_small(before, 64 << 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_clients_leave_few_lines_in_the_log() {
    let flood = Flood::new().await;
    let before = flood.kibibytes();
    for number in 0..100 {
        // No TLS; half a handshake; TLS without HTTP; a head that is too large; HTTP/2 that
        // violates the protocol; bytes that are not HTTP/2.
        let mut plain = TcpStream::connect(flood.served.address).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut half = TcpStream::connect(flood.served.address).await.unwrap();
        half.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        let mut none = Raw::new(tls_stream(flood.served.address, &flood.ca, Protocol::Http1).await);
        none.write("no http at all\r\n\r\n").await;
        let mut large =
            Raw::new(tls_stream(flood.served.address, &flood.ca, Protocol::Http1).await);
        large
            .write(format!(
                "GET / HTTP/1.1\r\nX: {}\r\n\r\n",
                "x".repeat(70 << 10)
            ))
            .await;
        let mut frames = flood.frames().await;
        // PING on a stream; it is only allowed on the connection.
        let _ = frames.try_write(b"\0\0\x08\x06\0\0\0\0\x01pingpong").await;
        while frames.settled().await {}
        let mut other = tls_stream(flood.served.address, &flood.ca, Protocol::Http2).await;
        let _ = other.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
        if number % 20 == 0 {
            assert_eq!(
                flood
                    .client()
                    .await
                    .create(&format!("beside-{number}"))
                    .await
                    .status,
                StatusCode::CREATED
            );
        }
    }
    let strange = flood.place.read("upstream-ca.crt");
    for _ in 0..100 {
        // Closed before the handshake is complete.
        drop(TcpStream::connect(flood.served.address).await.unwrap());
        assert!(
            soon(try_tls_stream(
                flood.served.address,
                &strange,
                Protocol::Http1
            ))
            .await
            .is_err()
        );
    }
    flood.assert_small(before, 64 << 10);
}

/// The executable in front of a control plane.
struct Flood {
    place: Place,
    served: Served,
    ca: String,
    logged: usize,
}

impl Flood {
    async fn new() -> Self {
        let place = Place::new().await;
        let served = place.served(&[]).await;
        let ca = place.read("ca.crt");
        let flood = Self {
            logged: served.process.stderr().len(),
            place,
            served,
            ca,
        };
        // Warms the process up before the first measurement.
        assert_eq!(
            flood.client().await.create("first").await.status,
            StatusCode::CREATED
        );
        flood
    }

    async fn client(&self) -> Client {
        Client::connect(
            self.served.address,
            &self.ca,
            self.place.plane.token(),
            Protocol::Http2,
        )
        .await
    }

    async fn frames(&self) -> Frames {
        Frames::connect(self.served.address, &self.ca, self.place.plane.token()).await
    }

    /// The memory that the process uses now.
    fn kibibytes(&self) -> usize {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.served.process.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Fails if the peak memory of the process grew by more than this, in KiB, or if it logged more
    /// than a few lines.
    fn assert_small(&self, before: usize, more: usize) {
        let (peak, log) = (self.kibibytes(), self.served.process.stderr());
        eprintln!(
            "{before} KiB before, {peak} KiB at most, {} bytes of log",
            log.len() - self.logged
        );
        assert!(peak < before + more, "{peak} KiB, and {before} before");
        assert!(log.len() - self.logged < LINES, "{log}");
    }
}
