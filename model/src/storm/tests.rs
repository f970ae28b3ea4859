use super::*;
use crate::{ControlPlane, Settings};

fn ended(status: Option<StatusCode>) -> StormResult {
    let result = if status.is_some() {
        CreateResult::Created
    } else {
        CreateResult::NoAnswer
    };
    let create = Create {
        namespace: "a".into(),
        name: "x".into(),
        status,
        result,
        attempts: 1,
        conflicts: 0,
        took: Duration::from_secs(1),
    };
    StormResult {
        creates: vec![create],
        elapsed: Duration::from_secs(1),
        deleted: HashSet::new(),
    }
}

fn there() -> HashSet<(String, String)> {
    HashSet::from([("a".to_owned(), "x".to_owned())])
}

#[test]
fn a_created_pod_must_be_stored_unless_it_was_deleted() {
    let mut created = ended(Some(StatusCode::CREATED));
    created.check(&there()).unwrap();
    assert!(matches!(
        created.check(&HashSet::new()),
        Err(Mismatch::Lost(_))
    ));
    created.deleted = there();
    created.check(&HashSet::new()).unwrap();
}

#[test]
fn a_refused_pod_must_not_be_stored_but_one_without_an_answer_may() {
    let refused = ended(Some(StatusCode::CONFLICT));
    refused.check(&HashSet::new()).unwrap();
    assert!(matches!(refused.check(&there()), Err(Mismatch::Refused(_))));
    ended(None).check(&there()).unwrap();
}

#[test]
fn a_quantile_is_the_duration_of_one_create() {
    let mut creates = ended(None);
    let one = creates.creates[0].clone();
    creates.creates = (1..=10)
        .map(|ms| Create {
            took: Duration::from_millis(ms),
            ..one.clone()
        })
        .collect();
    assert_eq!(
        [0.5, 0.99].map(|part| creates.quantile(part).as_millis()),
        [5, 10]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spreads_creates_over_namespaces_and_servers_and_deletes_on_request() {
    let plane = ControlPlane::start(Settings {
        apiservers: 2,
        ..Settings::quick()
    })
    .await
    .unwrap();
    let namespaces = ["a", "b"].map(str::to_owned);
    namespaces
        .iter()
        .for_each(|namespace| plane.create_namespace(namespace).unwrap());
    let endpoint = |url: &String| {
        Endpoint::new(url, plane.ca_pem(), plane.token(), http::Version::HTTP_2).unwrap()
    };
    let storm = Storm {
        servers: plane.urls().iter().map(endpoint).collect(),
        namespaces: namespaces.to_vec(),
        pods: 40,
        in_flight: 4,
        retry: Retry::DEFAULT_RETRY,
        deletes_per_second: Some(1000),
    };
    let ended = storm.run(|_| ()).await.unwrap();
    assert_eq!((ended.creates.len(), ended.failed()), (40, 0));
    let mut met = HashSet::new();
    plane.journal().for_each_create(|attempt| {
        met.insert((attempt.path.clone(), attempt.apiserver));
    });
    assert_eq!(met.len(), 4, "{met:?}");
    let left: HashSet<_> = namespaces
        .iter()
        .flat_map(|namespace| plane.pods(namespace))
        .map(|pod| (pod.namespace().to_owned(), pod.name().to_owned()))
        .collect();
    ended.check(&left).unwrap();
    assert_eq!(left.len(), 40 - ended.deleted.len());
    plane.shutdown().await;
}
