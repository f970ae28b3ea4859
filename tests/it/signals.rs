//! Stopping the real process: it becomes unready, finishes open requests, closes the rest, and
//! stops at once at a second signal.

use std::time::Duration;

use http::{Method, StatusCode};
use model_control_plane::{Canned, Fault};
use tokio::net::TcpStream;

use crate::support::executable::{Place, Served, command};
use crate::support::{Answer, Client, admin, eventually};

/// A proxy whose drain ends after `timeout`, and that holds creates as long as the apiserver asks.
async fn served(place: &Place, timeout: &str) -> Served {
    let more = format!("drain: {{timeout: {timeout}}}\nreplay: {{maxHold: 1h}}\n");
    Served::start(command(&["serve", "--config", &place.config(&more)])).await
}

/// A watch that has started.
async fn watch(client: &mut Client) -> http::Response<hyper::body::Incoming> {
    let watch = client
        .send(client.request(Method::GET, "/api/v1/namespaces/team/pods?watch=true", ""))
        .await;
    assert_eq!(watch.status(), StatusCode::OK);
    watch
}

cases!(
    a_signal_makes_it_unready_and_lets_creates_finish,
    [sigterm("TERM"), sigint("INT")]
);
async fn a_signal_makes_it_unready_and_lets_creates_finish(signal: &str) {
    let place = Place::new().await;
    let served = served(&place, "1h").await;
    let faults = place.plane.faults(0).unwrap();
    faults.next_create(Fault::Hold);
    let mut client = place.client(&served).await;
    let create = tokio::spawn(async move { client.create("a").await });
    eventually("the create is at the apiserver", || {
        !place.plane.journal().creates().is_empty()
    })
    .await;

    served.process.signal(signal);
    let unready = admin::get_until(served.admin, "/readyz?verbose", |answer| {
        !answer.status.is_success()
    })
    .await;
    assert!(
        unready.text().contains("[-]serving failed: draining"),
        "{}",
        unready.text()
    );
    assert_eq!(
        admin::get(served.admin, "/livez").await.status,
        StatusCode::OK
    );
    refuses_connections(&served).await;

    // The process has waited for the held request until now.
    faults.release();
    assert_eq!(
        create.await.unwrap().status,
        StatusCode::CREATED,
        "{signal}"
    );
    let ended = served.process.ended().await;
    assert_eq!(ended.code, Some(0), "{signal}");
    assert!(!ended.stderr.contains("Cutting"), "{}", ended.stderr);
    assert_eq!(place.plane.pods("team").len(), 1);
}

#[tokio::test]
async fn a_create_that_waits_for_its_replay_gets_the_answer_at_hand_at_the_deadline() {
    let place = Place::new().await;
    let served = served(&place, "100ms").await;
    place
        .plane
        .faults(0)
        .unwrap()
        .next_create(Fault::Answer(Canned::throttled(1000)));
    let mut client = place.client(&served).await;
    let create = tokio::spawn(async move { client.create("a").await });
    admin::get_until(served.admin, "/debug/held", |answer| {
        answer.text().contains("throttled")
    })
    .await;
    served.process.signal("TERM");
    let answer = create.await.unwrap();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many requests, please try again later.\n"
        )
    );
    assert_eq!(answer.headers["retry-after"], "1000");
    assert_eq!(served.process.ended().await.code, Some(0));
    assert_eq!(place.plane.journal().creates().len(), 1);
}

#[tokio::test]
async fn an_open_watch_is_cut_at_the_deadline_and_that_is_no_failure() {
    let place = Place::new().await;
    let served = served(&place, "100ms").await;
    let mut client = place.client(&served).await;
    let watch = watch(&mut client).await;
    served.process.signal("TERM");
    let ended = served.process.ended().await;
    assert_eq!(ended.code, Some(0));
    assert!(
        ended
            .stderr
            .contains("Cutting the connections that are still open"),
        "{}",
        ended.stderr
    );
    assert!(
        Answer::try_of(watch).await.is_err(),
        "a cut must not look like the watch's own end"
    );
}

cases!(
    a_second_signal_ends_it_at_once_and_tells_so,
    [
        twice_sigterm("TERM", "TERM"),
        twice_sigint("INT", "INT"),
        sigterm_and_sigint("TERM", "INT"),
    ]
);
async fn a_second_signal_ends_it_at_once_and_tells_so(first: &str, second: &str) {
    let place = Place::new().await;
    let mut served = served(&place, "1h").await;
    let mut client = place.client(&served).await;
    let _watch = watch(&mut client).await;
    served.process.signal(first);
    served.process.line("Stopping").await;
    admin::get_until(served.admin, "/readyz", |answer| {
        !answer.status.is_success()
    })
    .await;
    assert!(served.process.is_running(), "the watch keeps it");
    served.process.signal(second);
    let ended = served.process.ended().await;
    assert_eq!(ended.code, Some(1), "{first} {second}");
    assert!(
        ended.stderr.contains("Received a second signal"),
        "{}",
        ended.stderr
    );
}

/// Waits until new connections are no longer accepted.
async fn refuses_connections(served: &Served) {
    let refused = async {
        while TcpStream::connect(served.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused)
        .await
        .expect("the port is closed");
}
