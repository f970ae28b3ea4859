//! The admin port with all kinds of clients: probes and scrapes are answered, whatever the others
//! do.

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Protocol, Rig, admin, sample, soon};

/// More connections than the limit.
const MANY: usize = 300;

/// The regular clients of the admin port, and a client on the other port.
async fn assert_all_are_answered(rig: &Rig, during: &str) {
    for path in ["/livez", "/readyz", "/metrics", "/"] {
        assert_eq!(
            soon(admin::get(rig.proxy.admin_address, path)).await.status,
            StatusCode::OK,
            "{path} during {during}"
        );
    }
    assert_eq!(
        soon(rig.client(Protocol::Http2).await.get("/livez"))
            .await
            .status,
        StatusCode::OK,
        "{during}"
    );
}

/// A connection to which these bytes were written.
async fn said(rig: &Rig, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(rig.proxy.admin_address).await.unwrap();
    // It does not matter which of the connections were closed to make room.
    let _ = stream.write_all(text.as_bytes()).await;
    stream
}

cases!(
    probes_are_answered_beside_half_heads_and_silence,
    [
        half_heads("half heads", "GET /livez HTTP/1.1\r\nHost: admin\r\nX-"),
        silence("silence", ""),
        half_a_line("half a line", "GET /li"),
    ]
);
async fn probes_are_answered_beside_half_heads_and_silence(what: &str, text: &str) {
    let rig = Rig::new().await;
    let mut open = Vec::new();
    for number in 0..MANY {
        open.push(said(&rig, text).await);
        if number % 50 == 49 {
            assert_all_are_answered(&rig, what).await;
        }
    }
    assert_all_are_answered(&rig, what).await;
    assert!(
        sample(
            &rig.proxy,
            "kube_retry_proxy_connections_closed_total{port=\"admin\",reason=\"room\"}"
        ) > 0.0
    );
    rig.stop().await;
}

#[tokio::test]
async fn probes_are_answered_beside_those_that_do_not_read() {
    let rig = Rig::new().await;
    let mut open = Vec::new();
    for number in 0..MANY {
        // Otherwise the kernel's buffers for a reader are larger than the answer.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1 << 10).unwrap();
        let mut stream = socket.connect(rig.proxy.admin_address).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: admin\r\n\r\n")
            .await
            .unwrap();
        open.push(stream);
        if number % 50 == 49 {
            assert_all_are_answered(&rig, "readers that stand still").await;
        }
    }
    rig.stop().await;
}

#[tokio::test]
async fn pages_that_are_kept_live_stay_so_beside_everything_else() {
    let rig = Rig::new().await;
    let mut live = Vec::new();
    for _ in 0..64 {
        live.push(said(&rig, "GET /events HTTP/1.1\r\nHost: admin\r\n\r\n").await);
    }
    assert_all_are_answered(&rig, "live pages").await;
    let mut first = live.swap_remove(0);
    let mut open = Vec::new();
    for _ in 0..MANY {
        open.push(said(&rig, "").await);
    }
    assert_all_are_answered(&rig, "live pages and silence").await;
    // Updates come every second, so three updates are later than everything above.
    let mut page = Vec::new();
    soon(async {
        while page
            .windows(6)
            .filter(|window| *window == b"data: ")
            .count()
            < 3
        {
            assert!(first.read_buf(&mut page).await.unwrap() > 0, "it goes on");
        }
    })
    .await;
    rig.stop().await;
}
