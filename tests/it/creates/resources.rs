//! Creates of every resource that a quota can count are cured, and what must not wait does not.

use std::collections::BTreeSet;

use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use kube_retry_proxy::config::{Pin, Rate, Resource};
use model_control_plane::{Canned, Fault, QuotaOutcome, Settings};
use tokio::task::JoinSet;

use super::{brisk, conflict, ended, held, lasting_conflict, patient, rig};
use crate::cases::every;
use crate::support::{
    Answer, Client, NAMESPACE, Protocol, Rig, captured, eventually, sample, servers_up, soon,
};

/// A resource with the kind of its objects and the path to its collection.
#[derive(Clone, Copy, Debug)]
struct Sort {
    resource: &'static str,
    api_version: &'static str,
    kind: &'static str,
}

const SERVICE: Sort = Sort::of("services", "v1", "Service");
const CLAIM: Sort = Sort::of("persistentvolumeclaims", "v1", "PersistentVolumeClaim");
const SECRET: Sort = Sort::of("secrets", "v1", "Secret");
const JOB: Sort = Sort::of("jobs.batch", "batch/v1", "Job");
const WORKFLOW: Sort = Sort::of("workflows.argoproj.io", "argoproj.io/v1alpha1", "Workflow");

impl Sort {
    const fn of(resource: &'static str, api_version: &'static str, kind: &'static str) -> Self {
        Self {
            resource,
            api_version,
            kind,
        }
    }

    fn path(self) -> String {
        let root = if self.api_version.contains('/') {
            "apis"
        } else {
            "api"
        };
        let plural = self.resource.split('.').next().unwrap();
        format!(
            "/{root}/{}/namespaces/{NAMESPACE}/{plural}",
            self.api_version
        )
    }

    fn object(self, name: &str) -> String {
        serde_json::json!({
            "apiVersion": self.api_version, "kind": self.kind, "metadata": { "name": name },
        })
        .to_string()
    }

    /// A `POST`, or a server-side apply.
    fn request(self, client: &Client, name: &str, apply: bool) -> Request<Full<Bytes>> {
        let (method, path, content_type) = if apply {
            let path = format!("{}/{name}?fieldManager=me&force=true", self.path());
            (Method::PATCH, path, "application/apply-patch+yaml")
        } else {
            (Method::POST, self.path(), "application/json")
        };
        let mut request = client.request(method, &path, self.object(name));
        let content_type = content_type.parse().unwrap();
        request.headers_mut().insert(CONTENT_TYPE, content_type);
        request
    }

    async fn create(self, client: &mut Client, name: &str, apply: bool) -> Answer {
        let request = self.request(client, name, apply);
        Answer::of(client.send(request).await).await
    }
}

fn of_resource(rig: &Rig, family: &str, labels: &str) -> f64 {
    let series = format!("kube_retry_proxy_{family}_total{{{labels}\"}}");
    sample(&rig.proxy, &series)
}

const CREATES: usize = 120;
const IN_FLIGHT: usize = 40;

cases!(
    a_race_for_the_quota_fails_no_create,
    [
        services(SERVICE, false),
        claims(CLAIM, false),
        secrets_applied(SECRET, true),
        jobs(JOB, false),
        custom_resources(WORKFLOW, false),
        custom_resources_applied(WORKFLOW, true),
    ]
);
async fn a_race_for_the_quota_fails_no_create(sort: Sort, apply: bool) {
    // Pinned creates would not race.
    let rig = Rig::with(
        Settings {
            seed: 1,
            ..Settings::default()
        },
        |config| config.upstream.pin = Pin::None,
    )
    .await;
    let counted = format!("count/{}", sort.resource);
    rig.plane
        .create_quota(NAMESPACE, "counts", &[(&counted, "100k")])
        .unwrap();

    let mut workers = JoinSet::new();
    for worker in 0..IN_FLIGHT {
        let mut client = rig.client(Protocol::Http2).await;
        workers.spawn(async move {
            for n in (worker..CREATES).step_by(IN_FLIGHT) {
                let answer = sort.create(&mut client, &format!("one-{n}"), apply).await;
                assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
            }
        });
    }
    workers.join_all().await;

    let attempts = rig.plane.journal().attempts();
    let of = |outcome| {
        let of = attempts.iter().filter(|attempt| attempt.quota == outcome);
        of.count()
    };
    assert!(of(QuotaOutcome::Conflict) > 0, "there was no race");
    assert_eq!(of(QuotaOutcome::Charged), CREATES, "each was charged once");
    let stored: BTreeSet<_> = rig
        .plane
        .others(NAMESPACE, sort.resource)
        .into_iter()
        .collect();
    let sent: BTreeSet<_> = (0..CREATES).map(|n| format!("one-{n}")).collect();
    assert_eq!(stored, sent);
    let cured = format!(
        "outcome=\"created_after_replay\",resource=\"{}",
        sort.resource
    );
    assert!(of_resource(&rig, "resource_outcomes", &cured) > 0.0);
    rig.stop().await;
}

cases!(
    a_conflict_is_replayed_for_every_resource,
    protocols,
    [posted(false), applied(true)]
);
async fn a_conflict_is_replayed_for_every_resource(protocol: Protocol, apply: bool) {
    let rig = rig(brisk).await;
    let mut client = rig.client(protocol).await;
    every([SERVICE, CLAIM, SECRET, JOB, WORKFLOW], async |sort| {
        rig.faults().next_request(conflict());
        let answer = sort.create(&mut client, "mine", apply).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        let decision = &rig.decisions().await[0];
        assert_eq!(decision["resource"], sort.resource);
        assert_eq!(decision["name"], "mine");
        assert_eq!(decision["outcome"], "created_after_replay");
        let met = format!("class=\"quota_conflict\",resource=\"{}", sort.resource);
        assert_eq!(of_resource(&rig, "resource_conflicts", &met), 1.0);
    })
    .await;
    let status = String::from_utf8(rig.admin("/").await.body.to_vec()).unwrap();
    assert!(status.contains("jobs.batch team/mine"), "{status}");
    rig.stop().await;
}

#[tokio::test]
async fn an_apply_that_changes_an_object_is_replayed_too_and_its_own_conflicts_are_not() {
    let rig = rig(brisk).await;
    let mut client = rig.client(Protocol::Http2).await;
    JOB.create(&mut client, "mine", true).await;
    rig.faults().next_request(conflict());
    let answer = JOB.create(&mut client, "mine", true).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(ended(&rig, "created_after_replay"), 1.0);

    let others_own_it = model_control_plane::Canned::new(
        StatusCode::CONFLICT,
        "application/json",
        r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Apply failed with 1 conflict: conflict with \"kubectl\": .spec.parallelism","reason":"Conflict","details":{"causes":[{"reason":"FieldManagerConflict","message":"conflict with \"kubectl\"","field":".spec.parallelism"}]},"code":409}"#,
    );
    rig.faults()
        .next_request(model_control_plane::Fault::Answer(others_own_it));
    let before = rig.plane.journal().len();
    let answer = JOB.create(&mut client, "mine", true).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(answer.text().contains("FieldManagerConflict"), "{answer:?}");
    assert_eq!(rig.plane.journal().len(), before + 1);
    rig.stop().await;
}

cases!(
    leases_events_and_reads_pass_creates_that_are_held,
    protocols
);
async fn leases_events_and_reads_pass_creates_that_are_held(protocol: Protocol) {
    let rig = rig(|config| {
        patient(config);
        config.creates.max_held = 4.try_into().unwrap();
        config.creates.resources = vec![Resource::any()];
        config.rate_limit.global = Some(Rate::new(0.001, 4));
        config.rate_limit.resources = vec![Resource::any()];
    })
    .await;
    let mut waiting = JoinSet::new();
    for n in 0..4 {
        rig.faults()
            .next_create(model_control_plane::Fault::Answer(lasting_conflict()));
        let mut client = rig.client(protocol).await;
        waiting.spawn(async move { client.create(&format!("held-{n}")).await });
    }
    held(&rig, 4).await;

    let mut client = rig.client(protocol).await;
    let posts = [
        ("coordination.k8s.io/v1", "leases"),
        ("events.k8s.io/v1", "events"),
        ("authorization.k8s.io/v1", "localsubjectaccessreviews"),
    ];
    every(posts, async |(group, plural)| {
        let path = format!("/apis/{group}/namespaces/{NAMESPACE}/{plural}");
        // What would be a reason to wait is none.
        rig.faults().next_request(conflict());
        let request = client.request(Method::POST, &path, r#"{"metadata":{"name":"a"}}"#);
        let answer = soon(async { Answer::of(client.send(request).await).await }).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{path}");
    })
    .await;
    let core_events = format!("/api/v1/namespaces/{NAMESPACE}/events");
    let request = client.request(Method::POST, &core_events, r#"{"metadata":{"name":"a"}}"#);
    let answer = soon(async { Answer::of(client.send(request).await).await }).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(
        client.get("/api/v1/namespaces").await.status,
        StatusCode::OK
    );
    assert_eq!(rig.decisions().await.len(), 0, "none of these was a create");
    waiting.shutdown().await;
    rig.stop().await;
}

#[tokio::test]
async fn exceptions_are_calls() {
    let rig = rig(|config| {
        brisk(config);
        config.creates.except = vec![
            Resource::named("", "secrets"),
            Resource::named("batch", "*"),
        ];
    })
    .await;
    let mut client = rig.client(Protocol::Http1).await;
    every(
        [(SECRET, false), (JOB, false), (JOB, true), (SERVICE, true)],
        async |(sort, apply)| {
            rig.faults().next_request(conflict());
            let answer = sort.create(&mut client, "mine", apply).await;
            let expected = if sort.resource == "services" {
                StatusCode::CREATED
            } else {
                StatusCode::CONFLICT
            };
            assert_eq!(answer.status, expected);
        },
    )
    .await;
    assert_eq!(rig.decisions().await.len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn the_rate_limit_counts_the_resources_that_it_lists() {
    let rig = rig(|config| {
        config.rate_limit.namespace = Some(Rate::new(0.001, 1));
        config.rate_limit.max_wait = std::time::Duration::ZERO.try_into().unwrap();
    })
    .await;
    let mut client = rig.client(Protocol::Http1).await;
    for n in 0..5 {
        let answer = SECRET.create(&mut client, &format!("a-{n}"), n > 2).await;
        assert_eq!(answer.status, StatusCode::CREATED, "secrets take no turn");
    }
    assert_eq!(client.create("a").await.status, StatusCode::CREATED);
    assert_eq!(
        client.create("b").await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    let answer = SECRET.create(&mut client, "b", false).await;
    assert_eq!(
        answer.status,
        StatusCode::CREATED,
        "and do not wait for one"
    );
    rig.stop().await;
}

#[tokio::test]
async fn creates_of_all_resources_of_a_namespace_go_to_one_server() {
    let rig = Rig::listed(
        Settings {
            apiservers: 3,
            ..Settings::quick()
        },
        |_| {},
    )
    .await;
    eventually("all servers are up", || servers_up(&rig.proxy) == 3).await;
    let mut client = rig.client(Protocol::Http2).await;
    for (n, sort) in [SERVICE, SECRET, JOB, WORKFLOW].into_iter().enumerate() {
        sort.create(&mut client, "posted", false).await;
        sort.create(&mut client, "applied", true).await;
        client.create(&format!("pod-{n}")).await;
    }
    let attempts = rig.plane.journal().attempts();
    let servers: BTreeSet<_> = attempts
        .iter()
        .filter(|attempt| attempt.quota != QuotaOutcome::NotAsked)
        .map(|attempt| attempt.apiserver)
        .collect();
    assert_eq!(servers.len(), 1, "{servers:?}");
    rig.stop().await;
}

/// Throttling comes before authorization, so not even a create that was replayed or given up after
/// it shows that the namespace or the resource exists.
#[tokio::test]
async fn inventions_get_no_label() {
    let rig = rig(|config| config.replay.max_attempts = 2.try_into().unwrap()).await;
    let mut client = rig.client(Protocol::Http1).await;
    let answer = |name| Fault::Answer(captured(name));
    let [forbidden, throttled] = ["anonymous_403", "too_many_requests_429_apf"].map(answer);
    for (n, answers) in [
        vec![&forbidden],
        vec![&throttled, &forbidden],
        vec![&throttled, &throttled],
    ]
    .into_iter()
    .enumerate()
    {
        for answer in answers {
            rig.faults().next_request(answer.clone());
        }
        let path = format!("/apis/invented.io/v1/namespaces/invented-{n}/things");
        client.ask(client.request(Method::POST, &path, "{}")).await;
    }
    let text = rig.proxy.metrics.render();
    assert!(!text.contains("invented"), "{text}");
    for outcome in ["refused", "refused_after_replay", "gave_up"] {
        let series = format!("outcome=\"{outcome}\",resource=\"_other");
        assert_eq!(
            of_resource(&rig, "resource_outcomes", &series),
            1.0,
            "{outcome}"
        );
    }
    rig.stop().await;
}

/// The handler of a custom resource shuts down when its definition changes, and an aggregated API
/// server when it restarts. Neither says anything about kube-apiserver.
#[tokio::test]
async fn a_custom_resource_that_shuts_down_takes_no_server_away() {
    let rig = Rig::listed(
        Settings {
            apiservers: 3,
            ..Settings::quick()
        },
        brisk,
    )
    .await;
    let up = || servers_up(&rig.proxy);
    eventually("all servers are up", || up() == 3).await;
    let mut client = rig.client(Protocol::Http2).await;
    client.create("first").await;
    let own = rig.plane.journal().creates()[0].apiserver;
    let at_once = HeaderValue::from_static("0");
    let shutting_down = Canned::shutting_down().with(RETRY_AFTER, at_once);
    rig.plane
        .faults(own)
        .unwrap()
        .next_request(Fault::Answer(shutting_down));
    let answer = WORKFLOW.create(&mut client, "w", false).await;
    assert_eq!((answer.status, up()), (StatusCode::CREATED, 3));
    client.create("second").await;
    let attempts = rig.plane.journal().attempts();
    let servers: BTreeSet<_> = attempts
        .iter()
        .filter(|attempt| attempt.method == Method::POST)
        .map(|attempt| attempt.apiserver)
        .collect();
    assert_eq!(servers, BTreeSet::from([own]), "and its namespace stays");
    rig.stop().await;
}
