//! Objects with only a `generateName`: never sent again, unless the proxy completes the name.

use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{Method, StatusCode};
use kube_retry_proxy::config::Config;
use kube_retry_proxy::status::protobuf::{Message, encode_object};
use model_control_plane::{Encoding, Fault, Status};

use super::{
    ambiguous, assert_each_stored_once, assert_found, assert_own_status, attempts, captured,
    resolving, rig, store_foreign,
};
use crate::support::{Answer, Client, NAMESPACE, Protocol, Rig};

fn completing(config: &mut Config) {
    resolving(config);
    config.replay.complete_generate_name = true;
}

/// Creates a pod with a `generateName`.
async fn generate(client: &mut Client, encoding: Encoding) -> Answer {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let body = match encoding {
        Encoding::Protobuf => {
            let meta = Message::new()
                .string(1, "")
                .string(2, "step-")
                .string(3, "");
            let container = Message::new().string(1, "main").string(2, "busybox");
            let spec = Message::new().message(2, &container);
            let pod = Message::new().message(1, &meta).message(2, &spec);
            encode_object("v1", "Pod", &pod)
        }
        _ => r#"{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"step-"},
            "spec":{"containers":[{"name":"main","image":"busybox"}]}}"#
            .into(),
    };
    let mut request = client.request(Method::POST, &path, body);
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, encoding.content_type());
    headers.insert(ACCEPT, Encoding::Json.content_type());
    client.ask(request).await
}

fn names(rig: &Rig) -> Vec<String> {
    let creates = rig.plane.journal().creates();
    creates.into_iter().map(|create| create.name).collect()
}

fn is_generated(name: &str) -> bool {
    let letters = "bcdfghjklmnpqrstvwxz2456789";
    let suffix = name.strip_prefix("step-");
    suffix.is_some_and(|suffix| suffix.len() == 5 && suffix.chars().all(|c| letters.contains(c)))
}

cases!(
    a_completed_name_makes_a_create_that_can_be_found,
    protocols,
    [json(Encoding::Json), protobuf(Encoding::Protobuf)],
    [
        lost(Fault::LoseAnswer, "found"),
        cut(Fault::Cut, "sent_again")
    ]
);
async fn a_completed_name_makes_a_create_that_can_be_found(
    protocol: Protocol,
    encoding: Encoding,
    fault: Fault,
    result: &str,
) {
    let rig = rig(completing).await;
    rig.faults().next_create(fault);
    let answer = generate(&mut rig.client(protocol).await, encoding).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let stored = rig.plane.pods(NAMESPACE);
    assert_eq!(stored.len(), 1);
    assert!(is_generated(stored[0].name()), "{}", stored[0].name());
    assert_eq!(stored[0].posted.generate_name, "step-");
    if result == "found" {
        assert_found(&answer, stored[0].name());
    }
    assert_eq!(ambiguous(&rig, result), 1.0);
    assert_each_stored_once(&rig);
    rig.stop().await;
}

cases!(without_a_name_nothing_is_sent_again, protocols);
async fn without_a_name_nothing_is_sent_again(protocol: Protocol) {
    let rig = rig(resolving).await;
    rig.faults().next_create(Fault::LoseAnswer);
    let answer = generate(&mut rig.client(protocol).await, Encoding::Json).await;
    assert_own_status(&answer, 504, "Timeout", Encoding::Json);
    assert_eq!(
        (
            attempts(&rig),
            rig.plane.journal().len(),
            ambiguous(&rig, "unnamed")
        ),
        (1, 1, 1.0)
    );
    assert_eq!(names(&rig), ["step-"], "the apiserver completes it");
    rig.stop().await;
}

#[tokio::test]
async fn a_completed_name_that_is_taken_is_replaced() {
    let rig = rig(completing).await;
    let taken = captured("already_exists_409");
    rig.faults().next_create(Fault::Answer(taken.clone()));
    let mut client = rig.client(Protocol::Http2).await;
    let answer = generate(&mut client, Encoding::Json).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    assert_eq!(attempts(&rig), 2);

    rig.faults().every_create(Some(Fault::Answer(taken)));
    let answer = generate(&mut client, Encoding::Json).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    let status = Status::decode(&answer.body).unwrap();
    assert!(
        status
            .message
            .ends_with("the server was not able to generate a unique name for the object"),
        "{status:?}"
    );
    assert_eq!(answer.headers[RETRY_AFTER], "1");
    assert_eq!(attempts(&rig), 2 + 8, "as many as the apiserver tries");
    rig.stop().await;
}

#[tokio::test]
async fn a_name_that_the_client_chose_is_never_replaced() {
    let rig = rig(completing).await;
    store_foreign(&rig, "a").await;
    let answer = rig.client(Protocol::Http2).await.create("a").await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(names(&rig), ["a", "a"]);
    rig.stop().await;
}
