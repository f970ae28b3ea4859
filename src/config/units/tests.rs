use super::*;

#[test]
fn reads_durations_as_go_does() {
    let ms = |ms| Some(Duration::from_millis(ms));
    for (text, expected) in [
        ("250ms", ms(250)),
        ("1m30s", ms(90_000)),
        ("1.5s", ms(1_500)),
        ("1h", ms(3_600_000)),
        (".5s", ms(500)),
        ("1000us", ms(1)),
        ("1000µs", ms(1)),
        ("0", ms(0)),
        ("0s", ms(0)),
        ("", None),
        ("5", None),
        ("s", None),
        ("-1s", None),
        ("1d", None),
        ("1 s", None),
        (".s", None),
        ("1..5s", None),
        ("0.1ns", None),
        ("99999999999999999999h", None),
    ] {
        assert_eq!(go_duration(text), expected, "{text}");
    }
}

#[test]
fn reads_sizes_as_kubernetes_does() {
    for (text, expected) in [
        ("3Mi", Some(3 << 20)),
        ("64Ki", Some(64 << 10)),
        ("1.5Gi", Some(3 << 29)),
        ("10M", Some(10_000_000)),
        ("1k", Some(1_000)),
        ("42", Some(42)),
        ("", None),
        ("Mi", None),
        ("3MB", None),
        ("3mi", None),
        ("-1", None),
        ("0.5", None),
        ("99999999Ti", None),
    ] {
        assert_eq!(quantity(text), expected, "{text}");
    }
}

#[test]
fn prints_bounds_as_people_write_them() {
    assert_eq!(
        GoDuration(Duration::from_millis(90_250)).to_string(),
        "1m30s250ms"
    );
    assert_eq!(GoDuration(Duration::ZERO).to_string(), "0s");
    assert_eq!(Size(3 << 20).to_string(), "3Mi");
    assert_eq!(Size(1000).to_string(), "1000");
}

#[test]
fn reads_upstream_urls_and_explains_wrong_ones() {
    for good in [
        "https://10.0.0.1:6443",
        "https://kubernetes.default.svc",
        "http://127.0.0.1:8001/",
        "https://[fd00::1]:6443",
    ] {
        parse_upstream_url(good).unwrap_or_else(|why| panic!("{good}: {why}"));
    }
    for (bad, why) in [
        ("https://host/k8s", "path"),
        ("https://me:secret@host", "credentials"),
        ("https://host?x=1", "query"),
        ("https://host/#x", "fragment"),
        ("ftp://host", "https://"),
        ("host:6443", "https://"),
        ("/etc", "https://"),
        ("https://", ""),
        ("https://host:", ""),
        ("https://host:0", ""),
        ("https://a b", ""),
    ] {
        assert!(parse_upstream_url(bad).unwrap_err().contains(why), "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn printed_durations_are_read_back(nanos: u64) {
        let duration = Duration::from_nanos(nanos);
        assert_eq!(go_duration(&GoDuration(duration).to_string()), Some(duration));
    }

    #[test]
    fn printed_sizes_are_read_back(bytes: u64) {
        assert_eq!(quantity(&Size(bytes).to_string()), Some(bytes));
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "[0-9.]{0,40}[a-zA-Zµ:/@\\[\\]]{0,3}[0-9.]{0,3}\\PC{0,5}") {
        let _ = (go_duration(&text), quantity(&text), parse_upstream_url(&text), parse_host(&text), parse_log_level(&text));
    }
}
