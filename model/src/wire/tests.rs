use super::super::store::Store;
use super::proto::{Container, PodMessage, PodSpec, Quantity, Requirements};
use super::*;
use crate::envelope;
use prost::Message as _;

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":{"app":"x"},"annotations":{"k":"v"}},
    "spec":{"restartPolicy":"Never","containers":[{"name":"main","image":"busybox",
    "resources":{"requests":{"cpu":"10m","memory":"16Mi"},"limits":{"cpu":"20m"}}},{"name":"side","resources":{"limits":{"cpu":"1"}}}]}}"#;

fn stored(body: Bytes) -> std::sync::Arc<Pod> {
    let store = Store::new(1);
    store.create_namespace("ns").unwrap();
    store
        .create_pod(NewPod {
            namespace: "ns".into(),
            ..parse_pod(&body).unwrap()
        })
        .unwrap()
}

fn protobuf_pod() -> Bytes {
    let quantities = |name: &str, text: &str| {
        let quantity = Quantity {
            string: text.to_owned(),
        };
        BTreeMap::from([(name.to_owned(), quantity)])
    };
    let container = Container {
        name: "main".to_owned(),
        resources: Some(Requirements {
            limits: quantities("memory", "1Gi"),
            requests: quantities("cpu", "250m"),
        }),
        ..Container::default()
    };
    let metadata = ObjectMeta {
        generate_name: "work-".to_owned(),
        labels: BTreeMap::from([("app".to_owned(), "x".to_owned())]),
        ..ObjectMeta::default()
    };
    let spec = PodSpec {
        containers: vec![container],
    };
    envelope::wrap("Pod", &PodMessage::posted(metadata, &spec))
}

fn metadata_of(pod: &Bytes) -> ObjectMeta {
    let object = envelope::unwrap(pod).unwrap();
    PodMessage::decode(object.raw).unwrap().metadata
}

#[test]
fn computes_the_usage_of_a_json_pod() {
    let pod = parse_pod(&Bytes::from(POD)).unwrap();
    assert_eq!((pod.name.as_str(), pod.labels["app"].as_str()), ("a", "x"));
    let usage = pod.usage.pretty();
    assert_eq!(
        usage,
        "count/pods=1,cpu=1010m,limits.cpu=1020m,memory=16Mi,pods=1,requests.cpu=1010m,requests.memory=16Mi",
        "a limit replaces a missing request"
    );
    assert_eq!(
        pod.unspecified,
        [
            "limits.memory",
            "requests.memory",
            "memory",
            "limits.memory"
        ]
    );
}

#[test]
fn computes_the_usage_of_a_protobuf_pod() {
    let pod = parse_pod(&protobuf_pod()).unwrap();
    assert_eq!(
        (pod.generate_name.as_str(), pod.labels["app"].as_str()),
        ("work-", "x")
    );
    assert_eq!(
        (
            pod.usage.milli("requests.cpu"),
            pod.usage.whole("limits.memory")
        ),
        (Some(250), 1 << 30)
    );
}

#[test]
fn a_json_pod_comes_back_as_posted_with_the_servers_fields() {
    let pod = stored(Bytes::from(POD));
    let answer: Value = serde_json::from_slice(&pod_json(&pod)).unwrap();
    let posted: Value = serde_json::from_str(POD).unwrap();
    assert_eq!(answer["spec"], posted["spec"]);
    assert_eq!(
        answer["metadata"]["annotations"],
        posted["metadata"]["annotations"]
    );
    assert_eq!(answer["metadata"]["namespace"], "ns");
    assert_eq!(
        answer["metadata"]["resourceVersion"],
        pod.revision.to_string()
    );
}

#[test]
fn a_protobuf_pod_comes_back_as_posted_with_the_servers_fields() {
    let pod = stored(protobuf_pod());
    let answer = pod_protobuf(&pod);
    let meta = metadata_of(&answer);
    assert_eq!(
        (meta.generate_name.as_str(), meta.namespace.as_str()),
        ("work-", "ns")
    );
    // The answer is a pod like any other: parsing it again gives the same usage.
    let again = parse_pod(&answer).unwrap();
    assert_eq!(
        (again.usage, again.labels),
        (pod.posted.usage.clone(), pod.posted.labels.clone())
    );
}

#[test]
fn either_encoding_carries_the_metadata_of_the_other() {
    let from_json = metadata_of(&pod_protobuf(&stored(Bytes::from(POD))));
    assert_eq!(
        (from_json.name.as_str(), from_json.namespace.as_str()),
        ("a", "ns")
    );
    let from_protobuf: Value = serde_json::from_slice(&pod_json(&stored(protobuf_pod()))).unwrap();
    assert_eq!(from_protobuf["metadata"]["labels"]["app"], "x");
}

#[test]
fn rejects_bodies_that_are_not_pods() {
    let cut = parse_pod(&Bytes::from(&POD[..40])).unwrap_err();
    assert!(matches!(cut, Malformed::Unrecognized { .. }), "{cut}");
    let other = parse_pod(&Bytes::from(r#"{"kind":"Node","apiVersion":"v1"}"#)).unwrap_err();
    assert_eq!(
        other.to_string(),
        "Node in version \"v1\" cannot be handled as a Pod"
    );
    let quantity = r#"{"kind":"Pod","apiVersion":"v1","spec":{"containers":[{"resources":{"requests":{"cpu":"lots"}}}]}}"#;
    assert!(matches!(
        parse_pod(&Bytes::from(quantity)),
        Err(Malformed::Fields(_))
    ));
    assert!(parse_pod(&Bytes::from_static(b"k8s\0\xff")).is_err());
}
