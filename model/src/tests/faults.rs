//! Tests of the faults and of the load balancer.

use super::*;

#[tokio::test]
async fn applies_scripted_faults_in_order() {
    let plane = start(one(Settings::quick())).await;
    let mut client = first(&plane, Version::HTTP_2).await;
    faults(&plane).next_create(Fault::Answer(Canned::throttled(1)));
    let throttled = client.create_pod("ns", "a").await.unwrap();
    assert_eq!(
        (
            throttled.status.as_u16(),
            throttled.headers["retry-after"].to_str().unwrap()
        ),
        (429, "1")
    );
    for (fault, stored) in [
        (Fault::Reset, false),
        (Fault::Refuse, false),
        (Fault::LoseAnswer, true),
        (Fault::Truncate, true),
    ] {
        let shown = format!("{fault:?}");
        let name = shown.to_lowercase();
        faults(&plane).next_create(fault);
        let error = client.create_pod("ns", &name).await.unwrap_err();
        assert!(
            matches!(error, ClientError::Broken(_) | ClientError::Unfinished(_)),
            "{shown}: {error}"
        );
        let attempt = plane.journal().creates().pop().unwrap();
        assert_eq!(
            (attempt.stored.is_some(), attempt.delivered),
            (stored, false),
            "{shown}"
        );
    }
    assert_eq!(
        client.create_pod("ns", "after").await.unwrap().status,
        StatusCode::CREATED,
        "the connection is still usable"
    );
    plane.shutdown().await;
}

#[tokio::test]
async fn a_create_that_times_out_may_still_store_its_pod() {
    let plane = start(one(Settings::quick())).await;
    let mut client = first(&plane, Version::HTTP_2).await;
    faults(&plane).next_create(Fault::Hold);
    let answer = client
        .send(
            Method::POST,
            &format!("{PODS}?timeout=50ms"),
            small_pod("a"),
        )
        .await
        .unwrap();
    let status = Status::decode(&answer.body).unwrap();
    assert_eq!(
        (status.code, status.message.as_str()),
        (
            504,
            "Timeout: request did not complete within requested timeout 50ms"
        )
    );
    assert!(plane.pods("ns").is_empty());
    let mut changes = plane.store().subscribe();
    changes.mark_unchanged();
    faults(&plane).release();
    changes
        .wait_for(|_| plane.store().pod("ns", "a").is_some())
        .await
        .unwrap();
    plane.shutdown().await;
}

#[tokio::test]
async fn a_server_that_was_down_returns_on_the_same_port() {
    let plane = start(one(Settings::quick())).await;
    let mut h2 = first(&plane, Version::HTTP_2).await;
    let mut h1 = first(&plane, Version::HTTP_11).await;
    faults(&plane).next_request(Fault::GoAway);
    assert_eq!(
        h2.create_pod("ns", "a").await.unwrap().status,
        StatusCode::CREATED,
        "requests in flight are finished"
    );
    while h2.create_pod("ns", "b").await.is_ok() {}
    faults(&plane).set_down(true);
    assert!(h1.create_pod("ns", "c").await.is_err());
    let endpoint = Endpoint::new(
        &plane.urls()[0],
        plane.ca_pem(),
        plane.token(),
        Version::HTTP_11,
    )
    .unwrap();
    while endpoint.connect().await.is_ok() {}
    faults(&plane).set_down(false);
    let mut again = loop {
        if let Ok(client) = endpoint.connect().await {
            break client;
        }
    };
    assert_eq!(get(&mut again, PODS).await.status, StatusCode::OK);
    plane.shutdown().await;
}

#[tokio::test]
async fn the_balancer_spreads_connections_over_the_servers() {
    let plane = start(Settings::quick()).await;
    for _ in 0..6 {
        let mut client = client(&plane, &plane.balanced_url(), Version::HTTP_11).await;
        get(&mut client, PODS).await;
        get(&mut client, PODS).await;
    }
    let attempts = plane.journal().attempts();
    for server in 0..3 {
        let of: Vec<_> = attempts
            .iter()
            .filter(|attempt| attempt.apiserver == server)
            .collect();
        let connections: HashSet<_> = of.iter().map(|attempt| attempt.connection).collect();
        assert_eq!((of.len(), connections.len()), (4, 2));
    }
    plane.shutdown().await;
}
