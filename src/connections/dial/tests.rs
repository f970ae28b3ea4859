//! The race on paused time, with made-up addresses, and the dial of names on sockets.

use std::future::pending;
use std::sync::Mutex;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::*;

#[derive(Debug, thiserror::Error)]
#[error("TLS failed")]
struct TlsFailed;

/// Names what an address does. The port tells several of a kind apart.
fn address(name: &str) -> SocketAddr {
    let (kind, number) = name.split_once(' ').unwrap_or((name, "1"));
    let host = match kind {
        "refuses" => "10.0.0.1",
        "is-silent" => "10.0.0.2",
        "works" => "10.0.0.3",
        "fails" => "10.0.0.4",
        "stalls" => "10.0.0.5",
        "is-slow" => "10.0.0.6",
        "works6" => "[fd00::3]",
        "is-silent6" => "[fd00::2]",
        other => panic!("{other}"),
    };
    format!("{host}:{number}").parse().unwrap()
}

/// Races these addresses within five seconds. Tells when each was tried, in milliseconds, and how
/// it ended.
async fn raced(names: &[&str]) -> String {
    let start = Instant::now();
    let tried = Mutex::new(String::new());
    let connect = |address: SocketAddr| {
        let elapsed = start.elapsed().as_millis();
        *tried.lock().unwrap() += &format!("{address}@{elapsed} ");
        async move {
            match address.ip().to_string().as_str() {
                "10.0.0.1" => return Err(io::ErrorKind::ConnectionRefused.into()),
                "10.0.0.2" | "fd00::2" => pending().await,
                "10.0.0.6" => sleep(Duration::from_secs(1)).await,
                _ => {}
            }
            Ok(address)
        }
    };
    let then = async |address: SocketAddr| match address.ip().to_string().as_str() {
        "10.0.0.4" => Err(TlsFailed),
        "10.0.0.5" => pending().await,
        _ => Ok(address),
    };
    let addresses = names.iter().map(|name| address(name)).collect();
    let result = race(addresses, start + Duration::from_secs(5), connect, then).await;
    let end = start.elapsed().as_millis();
    let tried = tried.into_inner().unwrap();
    match result {
        Ok(winner) => format!("{tried}-> {winner}@{end}"),
        Err(failed) => format!("{tried}-> {}@{end}", words(&failed)),
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_address_that_works_wins() {
    let rows: [(&[&str], &str); 13] = [
        (&["works"], "10.0.0.3:1@0 -> 10.0.0.3:1@0"),
        (&["works 1", "works 2"], "10.0.0.3:1@0 -> 10.0.0.3:1@0"),
        // What fails is left at once.
        (
            &["refuses 1", "refuses 2", "works"],
            "10.0.0.1:1@0 10.0.0.1:2@0 10.0.0.3:1@0 -> 10.0.0.3:1@0",
        ),
        (
            &["fails", "works"],
            "10.0.0.4:1@0 10.0.0.3:1@0 -> 10.0.0.3:1@0",
        ),
        // What does not answer gets company.
        (
            &["is-silent", "works"],
            "10.0.0.2:1@0 10.0.0.3:1@250 -> 10.0.0.3:1@250",
        ),
        (
            &["is-silent 1", "is-silent 2", "refuses", "works"],
            "10.0.0.2:1@0 10.0.0.2:2@250 10.0.0.1:1@500 10.0.0.3:1@500 -> 10.0.0.3:1@500",
        ),
        // It can still win.
        (
            &["is-slow", "is-silent"],
            "10.0.0.6:1@0 10.0.0.2:1@250 -> 10.0.0.6:1@1000",
        ),
        // What has accepted is not raced, but has only its share of the time.
        (
            &["stalls", "works"],
            "10.0.0.5:1@0 10.0.0.3:1@2500 -> 10.0.0.3:1@2500",
        ),
        // The families take turns.
        (
            &["is-silent6 1", "works6 2", "works"],
            "[fd00::2]:1@0 10.0.0.3:1@250 -> 10.0.0.3:1@250",
        ),
        // A resolver can name an address twice.
        (
            &["refuses", "refuses", "works"],
            "10.0.0.1:1@0 10.0.0.3:1@0 -> 10.0.0.3:1@0",
        ),
        // The error has them in the order of the addresses, not in that of the resolver.
        (
            &["is-silent", "refuses"],
            "10.0.0.2:1@0 10.0.0.1:1@250 -> 10.0.0.1:1: connection refused; 10.0.0.2:1: timed out@5000",
        ),
        (
            &["fails", "stalls"],
            "10.0.0.4:1@0 10.0.0.5:1@0 -> 10.0.0.4:1: TLS failed; \
             10.0.0.5:1: accepted the connection, then timed out@5000",
        ),
        (&[], "-> the name has no address@0"),
    ];
    for (names, expected) in rows {
        assert_eq!(raced(names).await, expected, "{names:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_with_many_dead_addresses_is_bounded() {
    let names: Vec<_> = (1..=100)
        .map(|number| format!("refuses {number}"))
        .collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let ended = raced(&names).await;
    assert_eq!(ended.matches("connection refused").count(), MAX_ADDRESSES);
    let silent: Vec<_> = names
        .iter()
        .map(|name| name.replace("refuses", "is-silent"))
        .collect();
    let silent: Vec<_> = silent.iter().map(String::as_str).collect();
    assert!(raced(&silent).await.ends_with("timed out@5000"));
}

/// A listener that accepts nothing: its queue is full, so that the system ignores what comes.
async fn black_hole(address: SocketAddr) -> (Socket, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    let bound = socket.local_addr().unwrap().as_socket().unwrap();
    // A queue of length 0 has one place.
    let filling = TcpStream::connect(bound).await.unwrap();
    (socket, vec![filling])
}

/// Real sockets, so in real time: a silent address and one that refuses stand before the one that
/// works.
#[tokio::test]
async fn dead_addresses_do_not_keep_from_the_one_that_works() {
    let listener = TcpListener::bind("127.0.0.3:0").await.unwrap();
    let works = listener.local_addr().unwrap();
    let (_socket, _filling) =
        black_hole(SocketAddr::new([127, 0, 0, 1].into(), works.port())).await;
    let on = |last| SocketAddr::new([127, 0, 0, last].into(), works.port());
    let then = async |stream: TcpStream| Ok::<_, TlsFailed>(stream.peer_addr().unwrap());
    let deadline = Instant::now() + Duration::from_secs(60);
    let raced = race(vec![on(1), on(2), on(3)], deadline, socket::connect, then).await;
    assert_eq!(raced.unwrap(), works);
}

#[tokio::test]
async fn errors_name_the_addresses_of_a_name_and_not_a_given_address_twice() {
    let dialled = async |host: &str| {
        let then = async |_| Ok::<(), TlsFailed>(());
        // Nobody listens on port 1.
        let error = dial((host, 1), Duration::from_secs(60), then)
            .await
            .unwrap_err();
        chain(&error).to_string()
    };
    assert_eq!(
        dialled("127.0.0.1").await,
        "Connection refused (os error 111)"
    );
    let named = dialled("localhost").await;
    assert!(named.contains("127.0.0.1:1: Connection refused"), "{named}");
    let unknown = dialled("does-not-exist.invalid").await;
    assert!(
        unknown.starts_with("the name cannot be resolved: "),
        "{unknown}"
    );
}
