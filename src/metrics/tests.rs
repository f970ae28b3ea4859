use crate::rows::every;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

const CLASSES: &[&str] = &["quota_conflict", "throttled"];

/// Metrics in which every event has happened, so that every family shows.
fn everything() -> Metrics {
    let metrics = Metrics::new(100, CLASSES);
    let second = Duration::from_secs(1);
    for route in RouteLabel::ALL {
        metrics.request(*route, 201, second);
        metrics.overhead(*route, second);
    }
    metrics.attempt("quota_conflict", Some(409));
    metrics.attempt("refused", None);
    metrics.conflict("argo", "pods", "quota_conflict");
    metrics.replay("quota_conflict");
    metrics.outcome("argo", "pods", Outcome::CreatedAfterReplay);
    metrics.not_replayed(NotReplayed::Hold);
    metrics.hold(second);
    metrics.rate_limit_waited(second);
    metrics.rate_limit_rejected(Scope::Namespace);
    metrics.budget_exhausted(Scope::Global, BudgetKind::Other);
    metrics.upstream_up("10.0.0.1:6443", true);
    metrics.pin_moved(PinMove::Failed);
    let lane = metrics.lane("create");
    let _ = (lane.connection(), lane.stream());
    lane.connect(true, second);
    metrics.upstream_error("connect");
    metrics.reload(Reloaded::Config, true);
    metrics.certificate_expiry(1_893_456_000);
    metrics.front_proxy_certificate_expiry(1_893_456_000);
    metrics.mode(Mode::Enforce);
    metrics
}

/// One line a family: name, type, label names, help.
fn families(text: &str) -> String {
    let mut help = BTreeMap::new();
    let mut families = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some((name, text)) = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
        {
            help.insert(name.to_owned(), text.to_owned());
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            let sample = lines.peek().copied().unwrap_or_default();
            let labels: Vec<_> = sample
                .split_once('{')
                .map_or("", |(_, rest)| rest)
                .split(',')
                .filter_map(|pair| pair.split_once('=').map(|(label, _)| label))
                .filter(|label| *label != "le")
                .collect();
            families += &format!("{name}{{{}}} {kind}: {}\n", labels.join(","), help[name]);
        }
    }
    families
}

#[test]
fn names_types_labels_and_help_are_those_of_the_snapshot() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/metrics.txt");
    let now = families(&everything().render());
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let pinned = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        now, pinned,
        "metrics are API; if the change is meant, run again with UPDATE_SNAPSHOTS=1 and tell it in the changelog"
    );
}

#[test]
fn promtool_reports_no_problems() {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(child) => child,
        Err(error) => {
            assert!(
                std::env::var_os("CI").is_none(),
                "promtool must be installed in CI: {error}"
            );
            eprintln!("skipped, promtool does not start: {error}");
            return;
        }
    };
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(everything().render().as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn known_counters_start_at_0() {
    let text = Metrics::new(100, CLASSES).render();
    every(
        [
            r#"kube_retry_proxy_replays_total{class="throttled"} 0"#,
            r#"kube_retry_proxy_outcomes_total{namespace="_other",outcome="gave_up"} 0"#,
            r#"kube_retry_proxy_not_replayed_total{reason="budget"} 0"#,
            r#"kube_retry_proxy_budget_exhausted_total{kind="quota_conflict",scope="global"} 0"#,
            r#"kube_retry_proxy_rate_limit_rejected_total{scope="namespace"} 0"#,
            r#"kube_retry_proxy_reloads_total{result="failure",what="certificate"} 0"#,
            r#"kube_retry_proxy_held 0"#,
        ],
        |line| {
            assert!(
                text.lines().any(|each| each == line),
                "{line} is missing from\n{text}"
            );
        },
    );
}

#[test]
fn requests_count_by_route_and_real_code() {
    let metrics = Metrics::new(100, CLASSES);
    metrics.request(RouteLabel::Create, 201, Duration::ZERO);
    metrics.request(RouteLabel::Create, 201, Duration::ZERO);
    metrics.request(RouteLabel::Upgrade, 101, Duration::ZERO);
    metrics.request(RouteLabel::Call, 999, Duration::ZERO);
    let text = metrics.render();
    assert!(
        text.contains(r#"requests_total{code="201",route="create"} 2"#),
        "{text}"
    );
    assert!(
        text.contains(r#"requests_total{code="101",route="upgrade"} 1"#),
        "{text}"
    );
    assert!(
        text.contains(r#"requests_total{code="other",route="call"} 1"#),
        "{text}"
    );
    assert!(
        text.contains(r#"request_duration_seconds_count{route="create"} 2"#),
        "{text}"
    );
}

#[test]
fn gauges_fall_when_their_guards_are_dropped() {
    let metrics = Metrics::new(100, CLASSES);
    let held = metrics.held();
    let buffered = metrics.buffered();
    buffered.rise(128);
    let stream = metrics.stream_open(StreamKind::Upgrade);
    let text = metrics.render();
    assert!(text.contains("kube_retry_proxy_held 1\n"), "{text}");
    assert!(
        text.contains("kube_retry_proxy_buffered_bytes 128\n"),
        "{text}"
    );
    assert!(
        text.contains("kube_retry_proxy_streams{kind=\"upgrade\"} 1\n"),
        "{text}"
    );
    buffered.fall(128);
    drop((held, stream));
    let text = metrics.render();
    assert!(text.contains("kube_retry_proxy_held 0\n"), "{text}");
    assert!(
        text.contains("kube_retry_proxy_buffered_bytes 0\n"),
        "{text}"
    );
    assert!(
        text.contains("kube_retry_proxy_streams{kind=\"upgrade\"} 0\n"),
        "{text}"
    );
}

#[test]
fn refused_creates_do_not_use_up_the_namespace_labels() {
    let metrics = Metrics::new(1, CLASSES);
    metrics.outcome("made-up", "pods", Outcome::Refused);
    metrics.outcome("real", "pods", Outcome::Created);
    metrics.outcome("real", "pods", Outcome::Refused);
    metrics.outcome("second", "pods", Outcome::Created);
    let text = metrics.render();
    every(
        [
            ("_other", "refused"),
            ("real", "created"),
            ("real", "refused"),
            ("_other", "created"),
        ],
        |(namespace, outcome)| {
            let line =
                format!(r#"outcomes_total{{namespace="{namespace}",outcome="{outcome}"}} 1"#);
            assert!(text.contains(&line), "{line} is missing from\n{text}");
        },
    );
}

#[test]
fn only_what_the_apiserver_has_gets_a_resource_label() {
    let metrics = Metrics::new(1, CLASSES);
    let nothing_stored = Outcome::ALL.iter().filter(|outcome| !outcome.is_stored());
    for (n, outcome) in nothing_stored.enumerate() {
        metrics.outcome("team", &format!("inventions{n}"), *outcome);
    }
    metrics.outcome("team", "jobs.batch", Outcome::Created);
    metrics.outcome("team", "jobs.batch", Outcome::Refused);
    metrics.conflict("team", "services", "quota_conflict");
    let text = metrics.render();
    assert!(!text.contains("inventions"), "{text}");
    every(
        [
            r#"resource_outcomes_total{outcome="refused",resource="_other"} 1"#,
            r#"resource_outcomes_total{outcome="gave_up",resource="_other"} 1"#,
            r#"resource_outcomes_total{outcome="created",resource="jobs.batch"} 1"#,
            r#"resource_outcomes_total{outcome="refused",resource="jobs.batch"} 1"#,
            r#"resource_conflicts_total{class="quota_conflict",resource="services"} 1"#,
        ],
        |line| assert!(text.contains(line), "{line} is missing from\n{text}"),
    );
}

#[test]
fn resources_beyond_the_bound_share_one_label() {
    let metrics = Metrics::new(1, CLASSES);
    for n in 0..MAX_RESOURCES + 5 {
        metrics.outcome("team", &format!("things{n}"), Outcome::Created);
    }
    let text = metrics.render();
    let shared = r#"resource_outcomes_total{outcome="created",resource="_other"} 5"#;
    assert!(text.contains(shared), "{text}");
}

#[test]
fn one_mode_is_in_effect() {
    let metrics = Metrics::new(1, CLASSES);
    metrics.mode(Mode::Enforce);
    metrics.mode(Mode::Off);
    let text = metrics.render();
    assert!(
        text.contains("mode{mode=\"off\"} 1\n") && text.contains("mode{mode=\"enforce\"} 0\n"),
        "{text}"
    );
}

#[test]
fn totals_sum_over_all_labels() {
    let metrics = Metrics::new(1, CLASSES);
    for namespace in ["a", "b", "b"] {
        metrics.conflict(namespace, "pods", "quota_conflict");
    }
    metrics.replay("quota_conflict");
    metrics.replay("throttled");
    assert_eq!((metrics.conflicts(), metrics.replays()), (3, 2));
}
