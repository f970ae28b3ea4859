//! Only requests that match the configuration are treated as creates.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, StatusCode};
use kube_retry_proxy::config::{Config, Resource};
use model_control_plane::{Canned, Fault};

use super::{brisk, conflict, rig};
use crate::cases::every;
use crate::support::{Answer, NAMESPACE, Protocol, Rig, assert_relayed, captured};

/// Sends one request to an apiserver that answers first with a quota conflict and then with
/// success. Returns the number of attempts.
async fn arrivals(
    rig: &Rig,
    protocol: Protocol,
    method: Method,
    path: &str,
    content_type: &str,
) -> usize {
    let success = Canned::new(StatusCode::CREATED, "application/json", "{}");
    rig.faults().next_request(conflict());
    rig.faults().next_request(Fault::Answer(success));
    let before = rig.plane.journal().len();
    let mut client = rig.client(protocol).await;
    let mut request = client.request(method, path, r#"{"metadata":{"name":"a"}}"#);
    request
        .headers_mut()
        .insert(CONTENT_TYPE, content_type.parse().unwrap());
    request
        .headers_mut()
        .insert(ACCEPT, "application/json".parse().unwrap());
    let answer = Answer::of(client.send(request).await).await;
    rig.faults().clear();
    let arrived = rig.plane.journal().len() - before;
    if arrived == 1 {
        assert_relayed(&answer, &captured("quota_conflict_409"), path);
    } else {
        assert_eq!(answer.status, StatusCode::CREATED, "{path}");
    }
    arrived
}

fn resource(group: &str, version: &str, resource: &str) -> Resource {
    Resource {
        group: group.into(),
        version: version.into(),
        resource: resource.into(),
    }
}

const JSON: &str = "application/json";
const APPLY: &str = "application/apply-patch+yaml";

cases!(
    only_creates_of_the_configured_resources_are_replayed,
    protocols
);
async fn only_creates_of_the_configured_resources_are_replayed(protocol: Protocol) {
    let edit = |config: &mut Config| {
        brisk(config);
        config.creates.resources = vec![
            resource("", "v1", "configmaps"),
            resource("batch", "v1", "jobs"),
            resource("", "v1", "namespaces"),
        ];
    };
    let table = [
        ("/api/v1/namespaces/team/configmaps", 2),
        ("/apis/batch/v1/namespaces/team/jobs", 2),
        ("/api/v1/namespaces", 1),
        ("/api/v1/namespaces/team/pods", 1),
        ("/apis/batch/v1beta1/namespaces/team/jobs", 1),
        ("/apis/apps/v1/namespaces/team/jobs", 1),
        ("/api/v1/namespaces/team/secrets", 1),
    ];
    let rig = rig(edit).await;
    every(table, async |(path, expected)| {
        assert_eq!(
            arrivals(&rig, protocol, Method::POST, path, JSON).await,
            expected,
            "{path}"
        );
    })
    .await;
    rig.stop().await;
}

cases!(
    what_looks_like_a_create_but_is_none_is_not_replayed,
    protocols
);
async fn what_looks_like_a_create_but_is_none_is_not_replayed(protocol: Protocol) {
    let rig = rig(brisk).await;
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let table = [
        (Method::POST, format!("{pods}/a/eviction")),
        (Method::POST, format!("{pods}/a/binding")),
        (Method::PUT, format!("{pods}/a")),
        (Method::DELETE, pods.clone()),
        (Method::POST, format!("{pods}?dryRun=All")),
    ];
    every(table, async |(method, path)| {
        assert_eq!(
            arrivals(&rig, protocol, method.clone(), &path, JSON).await,
            1,
            "{method} {path}"
        );
    })
    .await;
    rig.stop().await;
}

cases!(
    a_server_side_apply_is_replayed_unless_switched_off,
    protocols,
    [
        switched_off(false, APPLY, 1),
        switched_on(true, APPLY, 2),
        a_merge_patch(true, "application/merge-patch+json", 1),
        a_strategic_merge_patch(true, "application/strategic-merge-patch+json", 1),
    ]
);
async fn a_server_side_apply_is_replayed_unless_switched_off(
    protocol: Protocol,
    enabled: bool,
    content_type: &str,
    expected: usize,
) {
    let rig = rig(|config| {
        brisk(config);
        config.creates.server_side_apply = enabled;
    })
    .await;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/a?fieldManager=me&force=true");
    assert_eq!(
        arrivals(&rig, protocol, Method::PATCH, &path, content_type).await,
        expected
    );
    let queries = rig
        .plane
        .journal()
        .attempts()
        .into_iter()
        .filter(|attempt| attempt.method == Method::PATCH);
    assert!(
        queries
            .map(|attempt| attempt.query)
            .all(|query| query.as_deref() == Some("fieldManager=me&force=true"))
    );
    rig.stop().await;
}
