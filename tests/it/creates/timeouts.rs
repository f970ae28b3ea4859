//! The client's own `?timeout=`: untouched at first, and less with each replay.

use http::StatusCode;

use super::{brisk, conflict, rig};
use crate::support::{Answer, BOTH};

#[tokio::test]
async fn each_replay_asks_for_what_is_left_of_the_clients_timeout() {
    for protocol in BOTH {
        let rig = rig(brisk).await;
        (0..3).for_each(|_| rig.faults().next_create(conflict()));
        let mut client = rig.client(protocol).await;
        let request = client.create_request_with("a", "?fieldManager=it%20is&timeout=30s&fieldValidation=&x=1+1");
        assert_eq!(Answer::of(client.send(request).await).await.status, StatusCode::CREATED);
        let queries: Vec<_> = rig.plane.journal().creates().into_iter().map(|attempt| attempt.query.unwrap()).collect();
        assert_eq!(queries[0], "fieldManager=it%20is&timeout=30s&fieldValidation=&x=1+1", "the first attempt");
        let mut left = 30_000;
        for query in &queries[1..] {
            let millis =
                query.strip_prefix("fieldManager=it%20is&timeout=").and_then(|rest| rest.strip_suffix("ms&fieldValidation=&x=1+1"));
            let millis: u64 = millis.unwrap_or_else(|| panic!("{query}")).parse().unwrap();
            assert!(millis <= left && millis < 30_000, "{queries:?}");
            left = millis;
        }
        assert_eq!(queries.len(), 4);
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_query_without_a_timeout_stays_as_it_is() {
    for protocol in BOTH {
        for query in ["", "?fieldManager=a%2Bb", "?timeout=0s", "?timeout=soon"] {
            let rig = rig(brisk).await;
            rig.faults().next_create(conflict());
            let mut client = rig.client(protocol).await;
            let request = client.create_request_with("a", query);
            assert_eq!(client.send(request).await.status(), StatusCode::CREATED);
            let queries: Vec<_> = rig.plane.journal().creates().into_iter().map(|attempt| attempt.query).collect();
            let expected = query.strip_prefix('?').map(str::to_owned);
            assert_eq!(queries, [expected.clone(), expected]);
            rig.stop().await;
        }
    }
}
