use super::*;

fn parsed<T>(kind: Leaf<T>, text: &str) -> Parsed<T> {
    (kind.parse)(&YamlValue::Text(text.to_owned()))
}

#[test]
fn errors_name_the_expected_duration_and_url() {
    let minute: Leaf<Duration> = duration(Duration::from_millis(1), Duration::from_secs(60));
    assert_eq!(
        parsed(minute, "2m").unwrap_err(),
        "a duration from 1ms to 1m, like 250ms or 1m30s"
    );
    assert_eq!(
        parsed(upstream_url(), "x://h/p").unwrap_err(),
        "a URL like https://10.0.0.1:6443 (one that begins with https:// or http://)"
    );
}

#[test]
fn reads_hosts_names_and_log_levels() {
    for good in [
        "localhost",
        "127.0.0.1",
        "::1",
        "a-b.argo.svc",
        "*.argo.svc",
    ] {
        parsed(host(), good).unwrap();
    }
    for bad in ["", "localhost:80", "a_b", "-a", "https://a", "ö"] {
        parsed(host(), bad).unwrap_err();
    }
    assert_eq!(parsed(api_group(), "").unwrap(), "");
    assert_eq!(
        parsed(api_group(), "batch.example.com").unwrap(),
        "batch.example.com"
    );
    assert_eq!(parsed(api_group(), "*").unwrap(), "*");
    for bad in ["Pods", "*.k8s.io", "batch,apps"] {
        parsed(api_group(), bad).unwrap_err();
    }
    assert_eq!(parsed(api_name_or_any("x"), "*").unwrap(), "*");
    for bad in ["Pods", "pods/status", "pods ", "", "*s", "**", "*/*"] {
        parsed(api_name_or_any("x"), bad).unwrap_err();
    }
    for good in ["info", "WARN", "info,kube_retry_proxy::create=debug", "off"] {
        parsed(log_level(), good).unwrap();
    }
    for bad in ["", "verbose", "info,", "=debug", "5"] {
        parsed(log_level(), bad).unwrap_err();
    }
}
