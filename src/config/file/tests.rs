//! Every kind of mistake, all of them at once, and the documented example.

use std::time::Duration;

use super::*;
use crate::config::{
    Attempts, BudgetConfig, CaSource, Discover, LogFormat, Mode, OptIn, Pin, Rate, Resource,
};

const HEADER: &str = "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\n";

fn mistakes(body: &str) -> Vec<String> {
    let mistakes = parse(&format!("{HEADER}{body}")).unwrap_err();
    mistakes.to_string().lines().map(str::to_owned).collect()
}

fn config(body: &str) -> Config {
    parse(&format!("{HEADER}{body}")).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

#[test]
fn an_empty_file_means_all_defaults() {
    for text in ["", "# only a comment\n", "---\n", "null\n", HEADER] {
        assert_eq!(parse(text).unwrap(), Config::default(), "{text:?}");
    }
    assert_eq!(
        config("replay: null\nmode: null\nrateLimit:\n  namespace: null\n"),
        Config::default()
    );
}

#[test]
fn the_example_holds_every_default() {
    let (config, decoder) = walk(include_str!("../../../config/example.yaml"));
    assert_eq!(decoder.mistakes, []);
    assert_eq!(config, Config::default());
    let left_out: Vec<_> = decoder
        .asked
        .iter()
        .filter(|(_, line)| line.is_none())
        .collect();
    assert!(
        left_out.is_empty(),
        "not in config/example.yaml: {left_out:?}"
    );
}

#[test]
fn the_example_explains_the_fields_of_sections_that_are_off_by_default() {
    let (_, decoder) = walk(&format!(
        "{HEADER}rateLimit: {{namespace: {{qps: 1, burst: 1}}}}\n"
    ));
    let example = include_str!("../../../config/example.yaml");
    for (path, _) in decoder.asked {
        let name = path.rsplit('.').next().unwrap();
        assert!(
            example.contains(&format!("{name}:")),
            "{path} is not in config/example.yaml"
        );
    }
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let found = mistakes(
        "mode: Sometimes
upstream:
  url: https://host/path
  caFlie: ca.crt
serving:
  securePort: '8443'
  tlsCertFile: tls.crt
creates:
  maxBody: 3MB
  resources: []
replay:
  baseDelay: 250
  maxAttempts: 0
  budget:
    quotaConflict:
      ratio: abc
      ratoi: 1
rateLimit:
  global:
    qps: 0
tracing:
  endpoint: grpc://user:secret@collector:4317
  sampleRatio: 1.1
  serviceName: ''
colour: red
",
    );
    assert_eq!(
        found,
        [
            "line 3: mode: 'Sometimes': expected Off or Observe or Enforce",
            "line 5: upstream.url: 'https://host/path': expected a URL like https://10.0.0.1:6443 (without a path)",
            "line 6: upstream.caFlie: unknown field; did you mean 'caFile'?",
            "line 8: serving.securePort: '8443': expected a whole number from 0 to 65535",
            "line 9: serving.tlsCertFile: needs serving.tlsPrivateKeyFile beside it",
            "line 11: creates.maxBody: '3MB': expected a size from 1Ki to 64Mi, like 64Ki or 3Mi",
            "line 12: creates.resources: an empty list: expected a list with at least one item",
            "line 14: replay.baseDelay: 250: expected a duration from 1ms to 1h, like 250ms or 1m30s",
            "line 15: replay.maxAttempts: 0: expected a whole number from 1 to 1000",
            "line 18: replay.budget.quotaConflict.ratio: 'abc': expected a number from 0 to 10, like 1.0",
            "line 19: replay.budget.quotaConflict.ratoi: unknown field; did you mean 'ratio'?",
            "line 22: rateLimit.global.qps: 0: expected a number from 0.001 to 1000000, like 20",
            "line 22: rateLimit.global.burst: missing: expected a whole number from 1 to 1000000",
            "line 24: tracing.endpoint: 'grpc://…@collector:4317': expected a URL like http://localhost:4318, without TLS, credentials and path",
            "line 25: tracing.sampleRatio: 1.1: expected a number from 0 to 1, like 0.1",
            "line 26: tracing.serviceName: '': expected a name",
            "line 27: colour: unknown field",
        ]
    );
}

#[test]
fn wrong_types_are_mistakes_at_any_depth() {
    assert_eq!(
        mistakes("replay: 5\n"),
        ["line 3: replay: 5: expected a mapping"]
    );
    assert_eq!(
        mistakes("drain: {timeout: [1s]}\n"),
        ["line 3: drain.timeout: a list: expected a duration from 0s to 1h, like 250ms or 1m30s"]
    );
    assert_eq!(
        mistakes("serving: {selfSigned: {hosts: [a, 5]}}\n"),
        [
            "line 3: serving.selfSigned.hosts: a list: expected each item to be a host name or an IP address without a port, not 5"
        ]
    );
    assert_eq!(
        mistakes(
            "creates: {serverSideApply: yes, resources: [pods, {version: v1}, {resource: pods/status}]}\n"
        ),
        [
            "line 3: creates.resources[0]: 'pods': expected a mapping like {resource: pods}",
            "line 3: creates.resources[1].resource: missing: expected a plural name in lower case without a subresource, like pods, or '*'",
            "line 3: creates.resources[2].resource: 'pods/status': expected a plural name in lower case without a subresource, like pods, or '*'",
            "line 3: creates.serverSideApply: 'yes': expected true or false",
        ]
    );
    assert_eq!(
        mistakes("logging: {level: 3}\nadmin: {bindAddress: ':8080'}\n"),
        [
            "line 3: logging.level: 3: expected off, error, warn, info, debug or trace, or directives like info,kube_retry_proxy::create=debug",
            "line 4: admin.bindAddress: ':8080': expected an address and a port, like 0.0.0.0:8080 or [::]:8080",
        ]
    );
}

#[test]
fn mistakes_in_lists_of_resources_are_reported() {
    let name = "expected a plural name in lower case without a subresource, like pods, or '*'";
    assert_eq!(
        mistakes(
            "creates: {resources: [{resource: 'pod*'}, {group: '*.io', resource: Jobs}], except: pods}\n"
        ),
        [
            &format!("line 3: creates.resources[0].resource: 'pod*': {name}"),
            "line 3: creates.resources[1].group: '*.io': expected an API group like batch, '' for the core group, or '*'",
            &format!("line 3: creates.resources[1].resource: 'Jobs': {name}"),
            "line 3: creates.except: 'pods': expected a list with at least one item",
        ]
    );
    let never = "must not list events, leases, bindings, resourcequotas or anything of \
                 authentication.k8s.io or authorization.k8s.io: their creates never wait";
    for (index, listed) in [
        (0, "{resource: events}"),
        (
            0,
            "{group: coordination.k8s.io, version: v1, resource: leases}",
        ),
        (
            1,
            "{resource: pods}, {group: authorization.k8s.io, resource: '*'}",
        ),
        (0, "{group: authentication.k8s.io, resource: tokenreviews}"),
    ] {
        assert_eq!(
            mistakes(&format!("creates: {{resources: [{listed}]}}\n")),
            [format!("line 3: creates.resources[{index}]: {never}")],
            "{listed}"
        );
    }
    let all_taken_out = "line 3: creates.except[0]: must not take out all of an item of creates.resources; remove that item instead";
    for creates in [
        "{except: [{group: '*', resource: '*'}]}",
        "{resources: [{resource: pods}, {resource: services}], except: [{resource: services}]}",
        "{resources: [{group: batch, version: v1, resource: jobs}], except: [{group: batch, resource: '*'}]}",
    ] {
        assert_eq!(
            mistakes(&format!("creates: {creates}\n")),
            [all_taken_out],
            "{creates}"
        );
    }
    config(
        "creates: {resources: [{group: batch, resource: jobs}], except: [{group: batch, version: v1, resource: jobs}]}\n",
    );
    config("creates: {except: null}\nrateLimit: {resources: [{group: '*', resource: '*'}]}\n");
}

#[test]
fn rules_between_fields_are_checked() {
    assert_eq!(
        mistakes("replay:\n  baseDelay: 3s\n"),
        ["line 4: replay.baseDelay: must not exceed replay.maxDelay"]
    );
    assert_eq!(
        mistakes("replay:\n  maxDelay: 10ms\n"),
        ["line 4: replay.baseDelay: must not exceed replay.maxDelay"]
    );
    assert_eq!(
        mistakes("serving: {tlsPrivateKeyFile: k}\n"),
        ["line 3: serving.tlsPrivateKeyFile: needs serving.tlsCertFile beside it"]
    );
    assert_eq!(
        mistakes("creates: {maxBuffered: 1Mi}\n"),
        ["line 3: creates.maxBody: must not exceed creates.maxBuffered"]
    );
    assert_eq!(
        mistakes("serving: {securePort: 8080, bindAddress: 127.0.0.1}\n"),
        [
            "line 3: admin.bindAddress: has the port of serving.securePort on the same address; they must differ"
        ]
    );
    config(
        "serving: {securePort: 8080, bindAddress: 127.0.0.1}\nadmin: {bindAddress: '127.0.0.2:8080'}\n",
    );
}

#[test]
fn the_upstream_is_one_url_or_a_list_of_servers() {
    let listed =
        config("upstream: {servers: ['https://a:6443', 'https://b'], pin: None}\n").upstream;
    assert_eq!(
        (listed.url.as_ref(), listed.servers.len(), listed.pin),
        (None, 2, Pin::None)
    );
    assert_eq!(
        mistakes("upstream:\n  url: https://a\n  servers: [https://b]\n"),
        ["line 5: upstream.servers: cannot be given beside upstream.url"]
    );
    let found = config("upstream: {url: https://a, discover: Kubernetes}\n").upstream;
    assert_eq!(
        (found.discover, found.addresses().len()),
        (Some(Discover::Kubernetes), 1)
    );
    assert_eq!(
        mistakes("upstream:\n  servers: [https://b]\n  discover: Kubernetes\n"),
        ["line 5: upstream.discover: cannot be given beside upstream.servers"]
    );
    assert_eq!(
        mistakes("upstream: {discover: kubernetes}\n"),
        ["line 3: upstream.discover: 'kubernetes': expected Kubernetes"]
    );
    assert_eq!(
        mistakes("upstream: {servers: [https://a, https://a]}\n"),
        ["line 3: upstream.servers: must not name a server twice"]
    );
    let many: Vec<_> = (0..65).map(|n| format!("https://a:{}", n + 1)).collect();
    let many = mistakes(&format!("upstream: {{servers: [{}]}}\n", many.join(", ")));
    assert_eq!(
        many,
        ["line 3: upstream.servers: must not name more than 64 servers"]
    );
    assert_eq!(
        mistakes("upstream: {servers: [https://a/b], pin: Pod}\n").len(),
        2
    );
}

#[test]
fn a_rule_is_not_reported_for_a_value_that_could_not_be_read() {
    assert_eq!(
        mistakes("replay: {baseDelay: 3s, maxDelay: soon}\n").len(),
        1
    );
}

#[test]
fn duplicate_keys_are_mistakes() {
    assert_eq!(
        mistakes("drain: {timeout: 1s}\nmode: Off\ndrain: {timeout: 2s}\n"),
        ["line 5: drain: given twice, first in line 3"]
    );
    assert_eq!(
        mistakes("drain:\n  timeout: 1s\n  timeout: x\n"),
        ["line 5: drain.timeout: given twice, first in line 4"]
    );
}

#[test]
fn a_file_of_another_kind_is_refused() {
    assert_eq!(
        parse("- a\n").unwrap_err().to_string(),
        "line 1: a list: expected a mapping"
    );
    assert_eq!(
        parse("mode: Off\n").unwrap_err().to_string(),
        format!(
            "line 1: apiVersion: missing: expected {API_VERSION}\nline 1: kind: missing: expected {KIND}"
        )
    );
    let other = parse("apiVersion: kube-retry-proxy/v2\nkind: Pod\nmode: x\n")
        .unwrap_err()
        .0;
    assert_eq!(other.len(), 3, "{other:?}");
    let two = parse("mode: Off\n---\nmode: Off\n")
        .unwrap_err()
        .to_string();
    assert!(
        two.contains("another document begins here, and one was expected"),
        "{two}"
    );
    for creates in [
        "{resources: [{resource: *}]}",
        "\n  except:\n  - resource: *\n",
    ] {
        let bare = parse(&format!("creates: {creates}\n")).unwrap_err().0;
        let said = bare[0].to_string();
        assert!(said.ends_with("quotes around an asterisk: '*'"), "{said}");
        assert!(bare[0].line.is_some(), "{bare:?}");
    }
    let broken = parse("mode: [\nfoo: bar\n").unwrap_err().0;
    assert!(broken.len() == 1 && broken[0].line.is_some(), "{broken:?}");
}

#[test]
fn values_reach_their_fields() {
    let read = config(
        "mode: Observe
upstream: {url: 'https://[fd00::1]:6443', caFile: /ca.crt, serverName: kubernetes, connectTimeout: 1.5s, connectionsPerLane: 2}
serving: {bindAddress: '::', securePort: 0, tlsCertFile: a, tlsPrivateKeyFile: b}
admin: {bindAddress: '[::]:0'}
creates: {resources: [{group: batch, resource: jobs}, {resource: services}], except: [{group: '*', resource: x}], serverSideApply: false, maxBody: 64Ki, maxBuffered: 1048576}
replay: {budget: {other: {ratio: 1, perSecond: 0}}, exceededQuota: {enabled: true, maxHold: 1m30s}}
rateLimit: {namespace: {qps: 0.5, burst: 3}, global: {qps: 100, burst: 200}}
logging: {format: json, level: 'warn,kube_retry_proxy=debug'}
",
    );
    assert_eq!(read.mode, Mode::Observe);
    assert_eq!(
        read.upstream.url.unwrap().to_string(),
        "https://[fd00::1]:6443/"
    );
    assert_eq!(read.upstream.ca, Some(CaSource::File("/ca.crt".into())));
    assert_eq!(read.upstream.connect_timeout, Duration::from_millis(1500));
    assert_eq!(
        (
            read.serving.bind_address.to_string(),
            read.serving.secure_port
        ),
        ("::".to_owned(), 0)
    );
    assert_eq!(
        read.creates.resources[0],
        Resource {
            group: "batch".into(),
            version: "*".into(),
            resource: "jobs".into()
        }
    );
    assert_eq!(read.creates.except, [Resource::named("*", "x")]);
    assert!(!read.creates.server_side_apply);
    assert_eq!(
        (read.creates.max_body, read.creates.max_buffered),
        (64 << 10, 1 << 20)
    );
    assert_eq!(read.replay.budget.other, BudgetConfig::new(1.0, 0));
    assert_eq!(
        read.replay.exceeded_quota,
        OptIn {
            enabled: true,
            max_attempts: Attempts::new(30),
            max_hold: Duration::from_secs(90)
        }
    );
    assert_eq!(read.rate_limit.namespace, Some(Rate::new(0.5, 3)));
    assert_eq!(read.logging.format, LogFormat::Json);
}

#[test]
fn a_missing_file_is_named() {
    assert_eq!(
        load(Path::new("/nowhere.yaml")).unwrap_err().to_string(),
        "cannot read /nowhere.yaml"
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_file_panic(text in "([a-zA-Z]{1,8}: ?[\\[{&*!|>'\"-]?[a-z0-9.]{0,5}[\\]}]?\n {0,4}){0,6}") {
        let _ = parse(&text);
    }
}
