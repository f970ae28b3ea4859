//! The configuration that `/configz` shows, and the settings that the rules name.

use super::file::parse;
use super::*;

#[test]
fn the_shown_configuration_can_be_read_again() {
    let mut config = Config {
        mode: Mode::Observe,
        ..Config::default()
    };
    config.upstream.url = Some("https://10.0.0.1:6443".parse().unwrap());
    config.upstream.ca = Some(CaSource::File("/ca.crt".into()));
    config.replay.base_delay = Duration::from_millis(1500);
    config.creates.max_body = 1025;
    config.rate_limit.global = Some(Rate::new(0.5, 3));
    config.tracing.endpoint = Some("http://[fd00::1]:4318".parse().unwrap());
    let mut listed = Config::default();
    listed.upstream.servers = ["https://10.0.0.1:6443", "https://[fd00::1]"]
        .map(|url| url.parse().unwrap())
        .into();
    listed.upstream.pin = Pin::None;
    for config in [Config::default(), config, listed] {
        assert_eq!(
            parse(&show(&config).to_string()).unwrap(),
            config,
            "JSON is YAML too"
        );
    }
}

#[test]
fn a_setting_that_is_not_set_is_shown_as_null() {
    let shown = show(&Config::default());
    for path in ["/upstream/url", "/upstream/servers", "/rateLimit/global"] {
        assert_eq!(
            shown.pointer(path),
            Some(&serde_json::Value::Null),
            "{path}"
        );
    }
}

#[test]
fn every_rule_names_settings() {
    let mut config = Config::default();
    let url: http::Uri = "https://a".parse().unwrap();
    config.upstream.url = Some(url.clone());
    config.upstream.servers = vec![url; 65];
    config.upstream.discover = Some(Discover::Kubernetes);
    config.serving.secure_port = 8080;
    config.replay.base_delay = HOUR;
    config.creates.max_body = 1 << 40;
    let mut broken = rules::broken(&config);
    config.serving.tls_cert_file = Some("a".into());
    broken.append(&mut rules::broken(&config));
    (
        config.serving.tls_cert_file,
        config.serving.tls_private_key_file,
    ) = (None, Some("a".into()));
    broken.append(&mut rules::broken(&config));
    config.upstream.url = Some("http://a".parse().unwrap());
    config.serving.client_ca_file = Some("a".into());
    broken.append(&mut rules::broken(&config));
    config.serving.client_ca_file = None;
    config.upstream.front_proxy_cert_file = Some("a".into());
    broken.append(&mut rules::broken(&config));
    config.upstream.front_proxy_cert_file = None;
    config.upstream.front_proxy_key_file = Some("a".into());
    broken.append(&mut rules::broken(&config));
    let shown = show(&config);
    let names = broken
        .iter()
        .flat_map(|broken| [broken.mistake.path.as_str(), broken.other]);
    let mut known = 0;
    for name in names {
        let pointer = format!("/{}", name.replace('.', "/"));
        assert!(shown.pointer(&pointer).is_some(), "{name}");
        known += 1;
    }
    assert!(known >= 2 * 13, "every rule is broken once");
}

#[test]
fn client_certificates_need_all_three_files_and_tls() {
    let with = |url: &str, files: [bool; 3]| {
        let mut config = Config::default();
        config.upstream.url = Some(url.parse().unwrap());
        let file = |given: bool| given.then(|| "a".into());
        config.serving.client_ca_file = file(files[0]);
        config.upstream.front_proxy_cert_file = file(files[1]);
        config.upstream.front_proxy_key_file = file(files[2]);
        let broken = rules::broken(&config);
        let paths = broken.into_iter().map(|broken| broken.mistake.path);
        paths.collect::<Vec<_>>()
    };
    for files in 0..8 {
        let files = [1, 2, 4].map(|bit| files & bit != 0);
        let complete = files == [true; 3] || files == [false; 3];
        assert_eq!(with("https://a", files).is_empty(), complete, "{files:?}");
    }
    assert_eq!(with("http://a", [true; 3]), ["serving.clientCaFile"]);
    assert!(with("http://a", [false; 3]).is_empty());
}

#[test]
fn every_item_that_breaks_a_rule_is_named_with_its_line() {
    let text = "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\ncreates:\n  resources:\n  \
                - resource: pods\n  - resource: events\n  - resource: bindings\n";
    let broken = parse(text).unwrap_err().0;
    let named: Vec<_> = broken
        .iter()
        .map(|mistake| (mistake.line, mistake.path.as_str()))
        .collect();
    assert_eq!(
        named,
        [
            (Some(6), "creates.resources[1]"),
            (Some(7), "creates.resources[2]")
        ]
    );
}
