//! When the client disconnects, the create ends: nothing is kept, and the apiserver gets no further
//! attempt.

use std::time::Duration;

use kube_retry_proxy::config::Rate;
use model_control_plane::Fault;
use tokio::task::JoinHandle;

use super::{attempts, buffered, conflict, ended, held, lasting_conflict, patient, rig};
use crate::support::{Answer, Client, Protocol, Rig, eventually, sample};

/// A create in flight. Over HTTP/2 aborting it only resets its stream; the connection stays open.
async fn creating(rig: &Rig, protocol: Protocol) -> (JoinHandle<Answer>, Option<Client>) {
    let mut client = rig.client(protocol).await;
    let kept = (protocol == Protocol::Http2).then(|| client.share());
    (tokio::spawn(async move { client.create("a").await }), kept)
}

/// Waits until the create has ended because its client left, and checks that nothing of it is kept.
async fn gone(rig: &Rig, made: usize) {
    eventually("the create has ended", || ended(rig, "client_gone") == 1.0).await;
    eventually("its body is dropped", || buffered(rig) == 0.0).await;
    held(rig, 0).await;
    eventually("its stream is given back", || {
        sample(
            &rig.proxy,
            "kube_retry_proxy_upstream_streams{lane=\"create\"}",
        ) == 0.0
    })
    .await;
    let decision = &rig.decisions().await[0];
    assert_eq!(decision["outcome"], "client_gone", "{decision}");
    assert_eq!(
        decision["attempts"].as_array().unwrap().len(),
        made,
        "{decision}"
    );
    assert_eq!(rig.admin("/debug/held").await.json(), serde_json::json!([]));
}

cases!(
    a_client_that_leaves_while_it_is_held_ends_its_create,
    protocols
);
async fn a_client_that_leaves_while_it_is_held_ends_its_create(protocol: Protocol) {
    let rig = rig(patient).await;
    rig.faults().next_create(Fault::Answer(lasting_conflict()));
    let (create, mut kept) = creating(&rig, protocol).await;
    held(&rig, 1).await;
    assert!(buffered(&rig) > 0.0);
    let waiting = rig.admin("/debug/held").await.json();
    assert_eq!(
        (&waiting[0]["name"], &waiting[0]["class"]),
        (&"a".into(), &"quota_conflict".into()),
        "{waiting}"
    );
    create.abort();
    gone(&rig, 1).await;
    if let Some(client) = &mut kept {
        assert_eq!(
            client.get("/version").await.status.as_u16(),
            200,
            "only the stream is gone"
        );
    }
    assert_eq!(attempts(&rig), 1);
    rig.stop().await;
}

cases!(
    a_client_that_leaves_during_an_attempt_gets_no_other_one,
    protocols
);
async fn a_client_that_leaves_during_an_attempt_gets_no_other_one(protocol: Protocol) {
    let rig = rig(patient).await;
    rig.faults().next_create(Fault::Hold);
    let (create, _kept) = creating(&rig, protocol).await;
    eventually("the attempt has arrived whole", || {
        rig.plane
            .journal()
            .creates()
            .first()
            .is_some_and(|create| create.body > 0)
    })
    .await;
    // The apiserver finishes the attempt in flight. A further attempt would find the pod.
    rig.faults().every_create(Some(conflict()));
    create.abort();
    gone(&rig, 0).await;
    rig.faults().release();
    eventually("the pod is stored", || rig.plane.pods("team").len() == 1).await;
    assert_eq!(attempts(&rig), 1);
    rig.stop().await;
}

cases!(
    a_client_that_leaves_the_line_of_the_rate_limit_never_reaches_the_apiserver,
    protocols
);
async fn a_client_that_leaves_the_line_of_the_rate_limit_never_reaches_the_apiserver(
    protocol: Protocol,
) {
    let rig = rig(|config| {
        config.rate_limit.global = Some(Rate::new(0.001, 1));
        config.rate_limit.max_wait = Duration::from_secs(2 * 3600).try_into().unwrap();
    })
    .await;
    assert_eq!(
        rig.client(protocol)
            .await
            .create("first")
            .await
            .status
            .as_u16(),
        201
    );
    let (create, _kept) = creating(&rig, protocol).await;
    eventually("the create waits with its body", || buffered(&rig) > 0.0).await;
    create.abort();
    gone(&rig, 0).await;
    assert_eq!(attempts(&rig), 1);
    rig.stop().await;
}
