//! Limits that one client must not use up for others: connections, probes, handshakes, time. Also a
//! proxy that is its own upstream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::creates::quota_conflict;
use crate::lab::{Lab, Outcome, Size, eventually, in_time, ordinary};
use crate::peers::upstream::{Exchange, script};
use crate::peers::{Ask, Protocol, http1, http2, pod};
use crate::proxy::Configuration;

cases![
    half_sent_heads_at_the_admin_port_do_not_keep_probes_waiting,
    slow_readers_at_the_admin_port_do_not_keep_probes_waiting,
    idle_connections_over_http1_do_not_lock_out_others,
    idle_connections_over_http2_do_not_lock_out_others,
    connections_without_a_handshake_do_not_lock_out_others,
    upgrades_without_credentials_cost_the_upstream_nothing,
    an_upstream_that_leads_back_is_told_so,
    slow_attempts_end_with_the_hold,
];

/// Kubelet waits one second by default. A probe that takes ten times as long has failed in any
/// configuration.
const KUBELET: Duration = Duration::from_secs(10);

/// Opens connections to the admin port that send `bytes` and nothing more, and reopens each one
/// that is closed.
async fn probes_beside(size: Size, bytes: &'static [u8]) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, ordinary).await;
    lab.neighbours().await;
    let mut open = JoinSet::new();
    let (admin, opened) = (lab.proxy.admin, Arc::new(AtomicUsize::new(0)));
    for _ in 0..300 {
        let opened = Arc::clone(&opened);
        open.spawn(async move {
            // If the port closes or refuses a connection, another one follows.
            loop {
                if let Ok(mut tcp) = TcpStream::connect(admin).await {
                    let _refused = tcp.write_all(bytes).await;
                    opened.fetch_add(1, Ordering::Relaxed);
                    // Reads nothing until the other side closes or resets the connection.
                    while tcp.readable().await.is_ok()
                        && !matches!(tcp.try_read(&mut [0; 1]), Ok(0))
                    {
                        if tcp.peer_addr().is_err() {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    eventually(|| opened.load(Ordering::Relaxed) >= 250).await;
    let mut answered = 0;
    let probes = ["/livez", "/readyz", "/livez", "/readyz"];
    for path in probes {
        let answer = tokio::time::timeout(KUBELET, lab.proxy.admin(path))
            .await
            .ok()
            .flatten();
        let first = answer
            .as_deref()
            .and_then(|answer| answer.lines().next())
            .unwrap_or("nothing");
        answered += usize::from(first.starts_with("HTTP/1.1 200"));
        lab.require(
            first.starts_with("HTTP/1.1 200"),
            format!("{path}: {first}"),
        );
    }
    // Other pages may be refused meanwhile.
    let metrics = lab.proxy.admin("/metrics").await;
    lab.note(format!(
        "/metrics: {}",
        metrics
            .as_deref()
            .and_then(|answer| answer.lines().next())
            .unwrap_or("nothing")
    ));
    lab.note(format!("{answered} of {} probes answered", probes.len()));
    lab.finish(open).await
}

async fn half_sent_heads_at_the_admin_port_do_not_keep_probes_waiting(size: Size) -> Outcome {
    probes_beside(size, b"GET /livez HTTP/1.1\r\nhost: admin\r\nx-half").await
}

/// Requests whose answers nobody reads.
async fn slow_readers_at_the_admin_port_do_not_keep_probes_waiting(size: Size) -> Outcome {
    probes_beside(size, b"GET /metrics HTTP/1.1\r\nhost: admin\r\n\r\nGET /metrics HTTP/1.1\r\nhost: admin\r\n\r\nGET /").await
}

/// The short form has a lower limit and fewer connections.
async fn crowded(size: Size) -> (Lab, usize) {
    let (limit, connections) = (size.of(200, 10_000), size.of(300, 10_500));
    let configuration = Configuration {
        serving: format!("maxConnections: {limit}"),
        ..Configuration::default()
    };
    let lab = Lab::with(size, &[Protocol::Http2], configuration, script(ordinary)).await;
    (lab, connections)
}

async fn idle_connections_over_http1_do_not_lock_out_others(size: Size) -> Outcome {
    let (mut lab, connections) = crowded(size).await;
    lab.neighbours().await;
    let mut idle = Vec::new();
    for number in 0..connections {
        // The proxy may refuse some of them.
        let Ok(Ok(mut client)) =
            tokio::time::timeout(Duration::from_secs(1), http1::Client::connect(lab.dialer()))
                .await
        else {
            break;
        };
        if number % 2 == 0 {
            let _refused = tokio::time::timeout(
                Duration::from_secs(1),
                client.call(&Ask::get("/version"), b""),
            )
            .await;
        }
        idle.push(client);
    }
    lab.note(format!("{} idle connections", idle.len()));
    lab.neighbours_go_round(1).await;
    lab.finish(idle).await
}

async fn idle_connections_over_http2_do_not_lock_out_others(size: Size) -> Outcome {
    let (mut lab, connections) = crowded(size).await;
    lab.neighbours().await;
    let mut idle = Vec::new();
    for number in 0..connections {
        let Ok(Ok(client)) =
            tokio::time::timeout(Duration::from_secs(1), http2::Client::connect(lab.dialer()))
                .await
        else {
            break;
        };
        if number % 2 == 0 {
            let _refused = tokio::time::timeout(
                Duration::from_secs(1),
                client.call(&Ask::get("/version"), b""),
            )
            .await;
        }
        idle.push(client);
    }
    lab.note(format!("{} idle connections", idle.len()));
    lab.neighbours_go_round(1).await;
    lab.finish(idle).await
}

async fn connections_without_a_handshake_do_not_lock_out_others(size: Size) -> Outcome {
    let (mut lab, connections) = crowded(size).await;
    lab.neighbours().await;
    let mut silent = Vec::new();
    for _ in 0..connections {
        let Ok(Ok(tcp)) =
            tokio::time::timeout(Duration::from_secs(1), lab.dialer().tcp(false)).await
        else {
            break;
        };
        silent.push(tcp);
    }
    lab.note(format!("{} silent connections", silent.len()));
    lab.neighbours_go_round(1).await;
    lab.finish(silent).await
}

async fn upgrades_without_credentials_cost_the_upstream_nothing(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http1, |mut exchange: Exchange| async move {
        if exchange.path.contains("/exec") {
            exchange.body().await;
            return exchange.answer(401, "{}").await;
        }
        ordinary(exchange).await;
    })
    .await;
    lab.neighbours().await;
    let before = lab.upstreams[0].handshakes();
    let mut asked = JoinSet::new();
    for number in 0..300 {
        let dialer = lab.dialer().clone();
        asked.spawn(async move {
            let mut ask = Ask::get(format!(
                "/api/v1/namespaces/abuse/pods/{number}/exec?command=sh"
            ));
            ask.headers.retain(|(name, _)| name != "authorization");
            let ask = ask
                .with("connection", "Upgrade")
                .with("upgrade", "SPDY/3.1");
            let mut client = http1::Client::connect(&dialer).await.unwrap();
            in_time(client.call(&ask, b"")).await.is_some()
        });
    }
    let mut answered = 0;
    while let Some(done) = asked.join_next().await {
        answered += usize::from(done.unwrap());
    }
    let handshakes = lab.upstreams[0].handshakes() - before;
    lab.note(format!(
        "{handshakes} handshakes for 300 upgrades, {answered} answered"
    ));
    lab.require(
        answered == 300,
        format!("{answered} of 300 upgrades answered"),
    );
    lab.require(
        handshakes <= 60,
        format!("{handshakes} handshakes at the upstream for 300 upgrades without credentials"),
    );
    lab.finish(()).await
}

/// A TCP relay that leads from the proxy back to itself.
async fn an_upstream_that_leads_back_is_told_so(size: Size) -> Outcome {
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut lab = Lab::leading_to(size, relay.local_addr().unwrap()).await;
    let (proxy, connections) = (lab.dialer().address, Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&connections);
    let relaying = tokio::spawn(async move {
        let mut relayed = JoinSet::new();
        while let Ok((mut from, _)) = relay.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            relayed.spawn(async move {
                if let Ok(mut to) = TcpStream::connect(proxy).await {
                    let _ended = copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
    let asks = [
        (Ask::get("/api/v1/pods"), 0),
        (Ask::create("abuse"), 300),
        (Ask::get("/api/v1/pods?watch=true"), 0),
        (
            Ask::get("/api/v1/namespaces/abuse/pods/a/exec?command=sh")
                .with("connection", "Upgrade")
                .with("upgrade", "SPDY/3.1"),
            0,
        ),
    ];
    for (ask, size) in asks {
        let body = if size > 0 {
            pod("round", size)
        } else {
            bytes::Bytes::new()
        };
        let answer = match http1::Client::connect(lab.dialer()).await {
            Ok(mut client) => in_time(client.call(&ask, &body)).await,
            Err(_) => None,
        };
        let told = match &answer {
            Some(Ok(answer)) => format!(
                "{} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            ),
            other => format!("{other:?}"),
        };
        lab.require(
            matches!(&answer, Some(Ok(answer)) if answer.status == 508),
            format!("{} {}: {told}", ask.method, ask.path),
        );
    }
    let count = connections.load(Ordering::Relaxed);
    lab.note(format!("{count} connections round"));
    lab.require(count < 50, format!("{count} connections round"));
    let outcome = lab.finish(()).await;
    relaying.abort();
    outcome
}

/// An upstream that takes one second for each conflict, and a hold of two seconds.
async fn slow_attempts_end_with_the_hold(size: Size) -> Outcome {
    let configuration = Configuration {
        replay: "maxHold: 2s, baseDelay: 1ms, maxDelay: 2ms".to_owned(),
        ..Configuration::default()
    };
    let slow = script(|mut exchange: Exchange| async move {
        exchange.body().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        exchange.answer(409, quota_conflict()).await;
    });
    let mut lab = Lab::with(size, &[Protocol::Http2], configuration, slow).await;
    lab.neighbours().await;
    let client = http2::Client::connect(lab.dialer()).await.unwrap();
    let answer = in_time(client.call(&Ask::create("abuse"), &pod("slow", 500))).await;
    let attempts = lab.journal.count("/abuse/");
    lab.note(format!(
        "{attempts} attempts of a second each within a hold of two"
    ));
    lab.require(
        matches!(&answer, Some(Ok(answer)) if answer.status == 409),
        format!("{answer:?}"),
    );
    // Attempts begin at 0 and 1 s; whether one begins at 2 s depends on rounding.
    lab.require(
        attempts <= 3,
        format!("{attempts} attempts of a second each within a hold of two seconds"),
    );
    lab.finish(client).await
}
