use super::*;
use crate::config::file;
use crate::rows::every;

fn judge(config: &str) -> Judge {
    let header = "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\n";
    Judge::new(&file::parse(&format!("{header}{config}")).unwrap())
}

fn event(verb: Verb, class: Class) -> Event<'static> {
    let uri = match verb {
        Verb::Create => "/api/v1/namespaces/a/pods?fieldManager=x",
        Verb::Patch => "/api/v1/namespaces/a/pods/b?fieldManager=x&force=false",
    };
    Event {
        verb,
        namespace: "a".into(),
        group: "".into(),
        resource: "pods".into(),
        user_agent: "x/1".into(),
        uri: uri.into(),
        time: Some(100),
        answer: Answer::Is {
            class,
            created: class == Class::Success,
        },
    }
}

const APPLIES: &str = "creates: {serverSideApply: true}";

#[test]
fn each_answer_counts_as_what_it_is() {
    let counts = |quota_conflicts, throttled, starting_or_stopping, would_replay| Counts {
        creates: 1,
        quota_conflicts,
        throttled,
        starting_or_stopping,
        would_replay,
    };
    every(
        [
            (Class::Success, counts(0, 0, 0, 0)),
            (Class::QuotaConflict, counts(1, 0, 0, 1)),
            (Class::QuotaConflictUid, counts(1, 0, 0, 1)),
            (Class::ClusterQuotaConflict, counts(1, 0, 0, 1)),
            (Class::AlreadyExists, counts(0, 0, 0, 0)),
            (Class::OtherConflict, counts(0, 0, 0, 0)),
            (Class::ExceededQuota, counts(0, 0, 0, 0)),
            (Class::Throttled, counts(0, 1, 0, 1)),
            (Class::ShuttingDown, counts(0, 0, 1, 1)),
            (Class::StartingUp, counts(0, 0, 1, 1)),
            (Class::EtcdOverload, counts(0, 0, 0, 1)),
            (Class::QuotaEvaluationTimeout, counts(0, 0, 0, 0)),
            (Class::HandlerTimeout, counts(0, 0, 0, 0)),
        ],
        |(class, expected)| {
            let mut tally = Tally::new(judge(""));
            tally.count(&event(Verb::Create, class));
            assert_eq!(tally.total(), expected, "{class:?}");
            assert_eq!(tally.answers[&class], 1);
        },
    );
}

#[test]
fn a_patch_counts_if_its_answer_tells_that_it_creates() {
    every(
        [
            (Class::QuotaConflict, APPLIES, Some(1)),
            (
                Class::QuotaConflict,
                "creates: {serverSideApply: false}",
                Some(0),
            ),
            (Class::Success, APPLIES, Some(0)),
            (Class::Throttled, APPLIES, None),
            (Class::OtherConflict, APPLIES, None),
        ],
        |(class, config, would_replay)| {
            let mut tally = Tally::new(judge(config));
            tally.count(&event(Verb::Patch, class));
            let total = tally.total();
            assert_eq!(
                (total.creates == 1).then_some(total.would_replay),
                would_replay
            );
        },
    );
    // Without `force`, the patch may be no server-side apply.
    let mut tally = Tally::new(judge(APPLIES));
    let mut patch = event(Verb::Patch, Class::QuotaConflict);
    patch.uri = "/api/v1/namespaces/a/pods/b?fieldManager=x".into();
    tally.count(&patch);
    assert_eq!(
        (tally.total().quota_conflicts, tally.total().would_replay),
        (1, 0)
    );
}

#[test]
fn the_configuration_decides_what_would_be_replayed() {
    every(
        [
            ("creates: {resources: [{resource: pods}]}", 1),
            ("creates: {resources: [{resource: secrets}]}", 0),
        ],
        |(config, would_replay)| {
            let mut tally = Tally::new(judge(config));
            tally.count(&event(Verb::Create, Class::QuotaConflict));
            assert_eq!(tally.total().would_replay, would_replay);
            assert_eq!(tally.relayed, 1 - would_replay);
        },
    );
    let mut tally = Tally::new(judge("replay: {exceededQuota: {enabled: true}}"));
    tally.count(&event(Verb::Create, Class::ExceededQuota));
    assert_eq!(tally.total().would_replay, 1);
}

#[test]
fn the_clients_with_the_most_conflicts_come_first() {
    let mut tally = Tally::new(judge(""));
    for (agent, class, times) in [
        ("creates/1", Class::Success, 9),
        ("throttled/1", Class::Throttled, 3),
        ("conflicts/1", Class::QuotaConflict, 2),
        ("conflicts/2", Class::QuotaConflict, 5),
    ] {
        let mut event = event(Verb::Create, class);
        event.user_agent = agent.into();
        (0..times).for_each(|_| tally.count(&event));
    }
    let rows = tally.rows();
    let agents: Vec<_> = rows.iter().map(|row| row.user_agent.as_str()).collect();
    assert_eq!(
        agents,
        ["conflicts/2", "conflicts/1", "throttled/1", "creates/1"]
    );
}

#[test]
fn rows_are_bounded_and_nothing_is_lost() {
    let mut tally = Tally::new(judge(""));
    let mut event = event(Verb::Create, Class::QuotaConflict);
    let count = 4 * MOST_ROWS;
    for number in 0..count {
        // Many user agents in a namespace, then many namespaces.
        let (agent, namespace) = match number < 2 * MOST_ROWS {
            true => (number, 0),
            false => (0, number),
        };
        event.user_agent = format!("a/{agent}").into();
        event.namespace = format!("n{namespace}").into();
        tally.count(&event);
    }
    assert_eq!(tally.total().creates, count as u64);
    assert_eq!(tally.rows.len(), 2 * MOST_ROWS + 1);
    let of = |namespace: &str, agent: &str| {
        let mut rows = tally.rows.iter();
        let row = rows.find(|row| (&*row.namespace, &*row.user_agent) == (namespace, agent));
        row.map(|row| row.counts.creates)
    };
    assert_eq!(of("n0", "a/0"), Some(1));
    assert_eq!(of("n0", OTHER), Some(MOST_ROWS as u64));
    assert_eq!(of(OTHER, OTHER), Some(MOST_ROWS as u64 + 1));
}

#[test]
fn a_user_agent_is_shown_by_its_program() {
    let long = "é".repeat(200);
    every(
        [
            ("", "(none)"),
            (" (a)", "(none)"),
            ("Go-http-client/2.0", "Go-http-client/2.0"),
            (
                "argo-workflows/v3.4.17 argo-controller",
                "argo-workflows/v3.4.17 argo-controller",
            ),
            (
                "kubectl/v1.37.2 (linux/amd64) kubernetes/abc",
                "kubectl/v1.37.2",
            ),
            (
                "Kubernetes Java Client/19.0.0",
                "Kubernetes Java Client/19.0.0",
            ),
            (
                "kube-controller-manager/v1.37.2 (linux/amd64) kubernetes/abc/system:serviceaccount:kube-system:job-controller",
                "kube-controller-manager/v1.37.2 job-controller",
            ),
            (&long, &long[..LONGEST_AGENT]),
        ],
        |(agent, expected)| assert_eq!(short(agent), expected),
    );
}

/// Anyone can send creates that are refused, with any name.
#[test]
fn refused_creates_open_no_rows_and_long_names_are_cut() {
    let mut tally = Tally::new(judge(""));
    every([Class::Unauthorized, Class::Rejected], |class| {
        for number in 0..MOST_ROWS {
            let mut event = event(Verb::Create, class);
            event.namespace = format!("n{number}").into();
            event.user_agent = format!("a/{number}").into();
            tally.count(&event);
        }
    });
    let mut long = event(Verb::Create, Class::QuotaConflict);
    tally.count(&long);
    let name = "é".repeat(1 << 20);
    (long.namespace, long.group, long.resource) = (
        name.as_str().into(),
        name.as_str().into(),
        name.as_str().into(),
    );
    tally.count(&long);
    let names: Vec<_> = tally
        .rows()
        .iter()
        .map(|row| row.namespace.clone())
        .collect();
    assert_eq!(names, ["a", &"é".repeat(126), OTHER]);
    let row = tally.rows()[1].clone();
    assert_eq!((row.group.len(), row.resource.len()), (252, 252));
    assert_eq!(tally.total().creates, 2 * MOST_ROWS as u64 + 2);
    // A client with a row of its own keeps all its answers.
    tally.count(&event(Verb::Create, Class::Rejected));
    assert_eq!(tally.rows()[0].counts.creates, 2);
}
