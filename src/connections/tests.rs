use std::net::Ipv4Addr;

use futures_now::now;

use super::*;

const MINE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const THEIRS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

fn connections(max: usize, per_address: usize) -> Arc<Connections> {
    with(ConnectionLimits {
        max,
        per_address,
        close_busy: false,
        requests: 10,
    })
}

fn with(limits: ConnectionLimits) -> Arc<Connections> {
    Connections::new(Port::Serving, limits, &Arc::new(Metrics::new(1, &[])))
}

/// Polls a future once.
mod futures_now {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    pub(super) fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }
}

async fn a_moment() {
    tokio::time::advance(Duration::from_millis(100)).await;
}

/// Places in this order, a moment apart.
async fn opened<const N: usize>(
    connections: &Arc<Connections>,
    addresses: [IpAddr; N],
) -> Vec<Place> {
    let mut places = Vec::new();
    for ip in addresses {
        places.push(connections.admit(ip).await.unwrap());
        a_moment().await;
    }
    places
}

fn told(place: &Place) -> bool {
    now(place.told_to_close()).is_some()
}

#[tokio::test(start_paused = true)]
async fn the_connection_that_is_idle_longest_makes_room() {
    let connections = connections(3, 3);
    let places = opened(&connections, [MINE; 3]).await;
    drop(places[0].request());
    a_moment().await;
    let _fourth = now(connections.admit(THEIRS)).unwrap().unwrap();
    assert_eq!(
        places.iter().map(told).collect::<Vec<_>>(),
        [false, true, false]
    );
    let _fifth = now(connections.admit(THEIRS)).unwrap().unwrap();
    assert_eq!(
        places.iter().map(told).collect::<Vec<_>>(),
        [false, false, true]
    );
}

#[tokio::test(start_paused = true)]
async fn a_busy_connection_never_makes_room_and_the_new_one_waits() {
    let connections = connections(2, 2);
    let mut places = opened(&connections, [MINE, THEIRS]).await;
    let requests: Vec<_> = places.iter().map(Place::request).collect();
    let third = tokio::spawn({
        let connections = Arc::clone(&connections);
        async move { connections.admit(MINE).await.map(|_| ()) }
    });
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!third.is_finished() && !places.iter().any(told));
    drop(requests);
    drop(places.pop());
    third.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_peer_does_not_read_the_response_is_busy() {
    let connections = connections(1, 1);
    let places = opened(&connections, [MINE]).await;
    drop(places[0].request());
    places[0].stalled(true);
    assert!(now(connections.admit(THEIRS)).is_none() && !told(&places[0]));
    places[0].stalled(false);
    a_moment().await;
    assert!(now(connections.admit(THEIRS)).is_some() && told(&places[0]));
}

#[tokio::test(start_paused = true)]
async fn an_address_cannot_take_more_than_its_share() {
    let connections = connections(10, 2);
    let theirs = opened(&connections, [THEIRS]).await;
    let places = opened(&connections, [MINE; 2]).await;
    let third = now(connections.admit(MINE)).unwrap().unwrap();
    assert!(
        told(&places[0]) && !told(&places[1]) && !told(&theirs[0]),
        "its own oldest goes"
    );
    let _requests = (places[1].request(), third.request());
    a_moment().await;
    assert!(
        now(connections.admit(MINE)).unwrap().is_none(),
        "all its own are busy"
    );
    assert!(now(connections.admit(THEIRS)).unwrap().is_some());
    drop(third);
    assert!(now(connections.admit(MINE)).unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_stays_open_keeps_its_place() {
    let connections = connections(1, 1);
    let places = opened(&connections, [MINE]).await;
    let second = now(connections.admit(THEIRS)).unwrap().unwrap();
    assert!(told(&places[0]));
    let request = places[0].request();
    places[0].stay();
    drop(second);
    assert!(
        now(connections.admit(THEIRS)).is_none(),
        "it has the only place"
    );
    drop(request);
    a_moment().await;
    assert!(now(connections.admit(THEIRS)).is_some() && told(&places[0]));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_is_never_told_to_close() {
    let connections = connections(1, 1);
    let places = opened(&connections, [MINE]).await;
    places[0].keep();
    assert!(now(connections.admit(THEIRS)).is_none() && !told(&places[0]));
}

#[tokio::test(start_paused = true)]
async fn if_the_port_allows_it_busy_connections_make_room_after_the_idle_ones() {
    let connections = with(ConnectionLimits {
        max: 3,
        per_address: 3,
        close_busy: true,
        requests: 10,
    });
    let places = opened(&connections, [MINE; 3]).await;
    let _requests = (places[0].request(), places[1].request());
    let mut more = Vec::new();
    let mut departed = Vec::new();
    for _ in 0..3 {
        a_moment().await;
        let place = now(connections.admit(MINE)).unwrap().unwrap();
        place.keep();
        more.push(place);
        departed.extend(places.iter().position(told));
    }
    assert_eq!(departed, [2, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn the_number_of_closing_connections_has_a_limit() {
    let connections = connections(MAX_CLOSING + 1, usize::MAX);
    let address = |number: usize| IpAddr::V4(Ipv4Addr::from_bits(number as u32));
    let mut places = Vec::new();
    for number in 0..=MAX_CLOSING {
        places.push(now(connections.admit(address(number))).unwrap().unwrap());
    }
    a_moment().await;
    for number in 0..MAX_CLOSING {
        places.push(now(connections.admit(address(number))).unwrap().unwrap());
    }
    assert!(
        now(connections.admit(MINE)).is_none(),
        "the next one waits until a connection has closed"
    );
    drop(places.swap_remove(0));
    assert!(now(connections.admit(MINE)).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_idle_from_the_end_of_its_last_request() {
    let connections = connections(1, 1);
    let place = opened(&connections, [MINE]).await.remove(0);
    let bound = Duration::from_secs(120);
    let began = Instant::now();
    let request = place.request();
    let idle = async {
        place.idle_for(bound).await;
        began.elapsed()
    };
    let asked = async {
        sleep(Duration::from_secs(300)).await;
        drop(request);
    };
    let (idle, ()) = tokio::join!(idle, asked);
    assert!(
        idle >= Duration::from_secs(420) && idle < Duration::from_secs(421),
        "{idle:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_closed_connections() {
    let connections = connections(2, 1);
    let places = opened(&connections, [MINE, THEIRS]).await;
    drop(now(connections.admit(MINE)).unwrap());
    drop(places);
    let table = connections.lock();
    assert!(table.by_id.is_empty() && table.addresses.is_empty());
    assert_eq!((table.all.open, table.all.closing), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn requests_above_the_limit_are_refused_and_one_address_cannot_take_them_all() {
    let connections = connections(3, 3);
    let mine = connections.admit(MINE).await.unwrap();
    let theirs = connections.admit(THEIRS).await.unwrap();
    let mut in_flight: Vec<_> = (0..8).map(|_| mine.request()).collect();
    assert!(in_flight.iter().all(|request| !request.exceeds()));
    assert!(mine.request().exceeds(), "four fifths are for one address");
    in_flight.extend([theirs.request(), theirs.request()]);
    assert!(in_flight.iter().all(|request| !request.exceeds()));
    assert!(theirs.request().exceeds(), "there are ten");
    drop(in_flight);
    assert!(!mine.request().exceeds());
}
