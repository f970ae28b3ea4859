use super::*;
use proptest::prelude::*;

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::try_from(*value).unwrap(),
        );
    }
    headers
}

fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect()
}

fn stripped(before: &[(&str, &str)], upgrade: Upgrade) -> Vec<(String, String)> {
    let mut headers = map(before);
    strip_hop_by_hop(&mut headers, upgrade);
    lines(&headers)
}

#[test]
fn removes_the_fields_of_one_connection() {
    let before = [
        ("host", "a"),
        ("connection", "keep-alive, X-Mine, close"),
        ("connection", "Content-Length, host"),
        ("x-mine", "1"),
        ("accept", "1"),
        ("x-mine", "2"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authorization", "Basic x"),
        ("te", "gzip"),
        ("trailer", "X-Sum"),
        ("accept", "2"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("content-length", "5"),
        ("audit-id", "7"),
    ];
    let after = [
        ("host", "a"),
        ("accept", "1"),
        ("accept", "2"),
        ("trailer", "X-Sum"),
        ("content-length", "5"),
        ("audit-id", "7"),
    ];
    assert_eq!(stripped(&before, Upgrade::Strip), lines(&map(&after)));
}

#[test]
fn keeps_the_upgrade_of_a_tunnel_and_no_more() {
    let before = [
        ("connection", "keep-alive, Upgrade, X-Mine"),
        ("x-mine", "1"),
        ("upgrade", "SPDY/3.1"),
        ("keep-alive", "5"),
        ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ("x-stream-protocol-version", "v3.channel.k8s.io"),
    ];
    let after = [
        ("connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ("x-stream-protocol-version", "v3.channel.k8s.io"),
    ];
    assert_eq!(stripped(&before, Upgrade::Keep), lines(&map(&after)));
    // An ordinary answer to an upgrade has nothing to keep.
    assert_eq!(
        stripped(&[("connection", "close"), ("date", "x")], Upgrade::Keep),
        lines(&map(&[("date", "x")]))
    );
}

#[test]
fn keeps_te_trailers_alone() {
    let te = |value: &str| stripped(&[("te", value), ("accept", "x")], Upgrade::Strip);
    assert_eq!(
        te("trailers"),
        lines(&map(&[("te", "trailers"), ("accept", "x")]))
    );
    assert_eq!(
        te("gzip, Trailers"),
        lines(&map(&[("te", "trailers"), ("accept", "x")]))
    );
    assert_eq!(te("gzip;q=0.5"), lines(&map(&[("accept", "x")])));
    let named = [("connection", "TE"), ("te", "trailers"), ("te", "gzip")];
    assert_eq!(
        stripped(&named, Upgrade::Strip),
        lines(&map(&[("te", "trailers")]))
    );
}

#[test]
fn a_response_keeps_the_fields_that_connection_must_not_name() {
    let before = [
        ("connection", "Content-Type, X-Mine, Warning"),
        ("content-type", "a/b"),
        ("x-mine", "1"),
        ("warning", "299 - \"w\""),
    ];
    assert_eq!(
        stripped(&before, Upgrade::Strip),
        lines(&map(&[("content-type", "a/b"), ("warning", "299 - \"w\"")]))
    );
}

#[test]
fn no_client_can_assert_an_identity_or_an_address() {
    let mut headers = map(&[
        ("X-Remote-User", "root"),
        ("authorization", "Bearer t"),
        ("x-remote-group", "system:masters"),
        ("x-forwarded-for", "1.2.3.4"),
        ("X-REMOTE-EXTRA-scopes", "x"),
        ("x-forwarded-for", "5.6.7.8"),
        ("X_Remote_User", "root"),
        ("x-remote_extra-scopes", "x"),
        ("X-Real-Ip", "1.2.3.4"),
        ("x_real_ip", "1.2.3.4"),
        ("x-forwarded_for", "1.2.3.4"),
        ("Forwarded", "for=1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("impersonate-user", "jane"),
        ("x-remotely", "stays"),
        ("x-remote", "stays"),
        ("forwarded-by", "stays"),
    ]);
    to_upstream(
        &mut headers,
        &"::ffff:10.0.0.1".parse::<IpAddr>().unwrap().into(),
        Upgrade::Strip,
    );
    let after = [
        ("authorization", "Bearer t"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("impersonate-user", "jane"),
        ("x-remotely", "stays"),
        ("x-remote", "stays"),
        ("forwarded-by", "stays"),
    ];
    assert_eq!(lines(&headers), lines(&map(&after)));
}

#[test]
fn fields_that_must_come_before_the_content_are_removed_from_trailers() {
    let mut trailers = map(&[
        ("x-checksum", "1"),
        ("authorization", "Bearer t"),
        ("content-length", "5"),
        ("Host", "a"),
        ("transfer_encoding", "chunked"),
        ("impersonate-user", "root"),
        ("X_Remote_Group", "system:masters"),
        ("x-real-ip", "1.2.3.4"),
        ("x-forwarded-for", "1.2.3.4"),
        ("forwarded", "for=1.2.3.4"),
        ("if-match", "x"),
        ("content-type", "a/b"),
        ("cookie", "a=b"),
        ("sec-websocket-protocol", "x"),
        ("grpc-status", "0"),
        ("content-digest", "sha-256=:x:"),
        ("x-checksum", "2"),
    ]);
    strip_trailers(&mut trailers);
    let after = [
        ("x-checksum", "1"),
        ("x-checksum", "2"),
        ("grpc-status", "0"),
        ("content-digest", "sha-256=:x:"),
    ];
    assert_eq!(lines(&trailers), lines(&map(&after)));
}

#[test]
fn a_response_keeps_its_upgrade_only_if_it_switches() {
    for status in [StatusCode::SWITCHING_PROTOCOLS, StatusCode::FORBIDDEN] {
        let mut response = Response::builder()
            .status(status)
            .version(Version::HTTP_10)
            .header("connection", "upgrade, x-mine")
            .header("upgrade", "websocket")
            .header("x-mine", "1")
            .header("audit-id", "2")
            .body(())
            .unwrap();
        to_client(&mut response);
        let switches = status == StatusCode::SWITCHING_PROTOCOLS;
        assert_eq!(response.headers().contains_key("upgrade"), switches);
        assert_eq!(response.headers().contains_key("connection"), switches);
        assert!(!response.headers().contains_key("x-mine"));
        assert_eq!(response.headers()["audit-id"], "2");
        assert_eq!(response.version(), Version::HTTP_11);
    }
}

#[test]
fn several_cookie_lines_become_one_in_the_place_of_the_first() {
    let mut headers = map(&[
        ("host", "a"),
        ("cookie", "a=b"),
        ("accept", "1"),
        ("cookie", "c=d; e=f"),
        ("accept", "2"),
        ("cookie", "g=h"),
    ]);
    join_cookies(&mut headers);
    assert_eq!(
        lines(&headers),
        lines(&map(&[
            ("host", "a"),
            ("cookie", "a=b; c=d; e=f; g=h"),
            ("accept", "1"),
            ("accept", "2")
        ]))
    );
    let once = headers.clone();
    join_cookies(&mut headers);
    assert_eq!(headers, once);
}

#[test]
fn a_switch_is_agreed_if_the_request_asked_for_each_of_its_protocols() {
    let agreed = |asked: &[&'static str], answered: &[&str]| {
        let asked: Vec<_> = asked
            .iter()
            .copied()
            .map(HeaderValue::from_static)
            .collect();
        is_agreed(
            &asked,
            &map(&answered
                .iter()
                .map(|value| ("upgrade", *value))
                .collect::<Vec<_>>()),
        )
    };
    assert!(agreed(&["SPDY/3.1"], &["spdy/3.1"]));
    assert!(agreed(&["foo, websocket", "bar"], &["bar", "WebSocket"]));
    assert!(!agreed(&["websocket"], &["SPDY/3.1"]));
    assert!(!agreed(&["websocket"], &["websocket, SPDY/3.1"]));
    assert!(!agreed(&["websocket"], &[]));
    assert!(!agreed(&["a,,b"], &["", ","]));
    assert!(!agreed(&[], &["websocket"]));
}

#[test]
fn hides_secrets_and_shows_the_rest() {
    let headers = map(&[
        ("authorization", "Bearer s3cret"),
        ("proxy-authorization", "Basic s3cret"),
        ("cookie", "s3cret"),
        ("set-cookie", "s3cret"),
        ("x-remote-user", "s3cret"),
        (
            "sec-websocket-protocol",
            "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.s3cret",
        ),
        ("impersonate-user", "jane"),
        ("accept", "a\"b"),
    ]);
    let shown = format!("{:?} {}", Redacted(&headers), Redacted(&headers));
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(
        shown.contains("jane") && shown.contains("authorization: <redacted>"),
        "{shown}"
    );
    assert_eq!(
        Redacted(&map(&[("sec-websocket-protocol", "v5.channel.k8s.io")])).to_string(),
        "sec-websocket-protocol: \"v5.channel.k8s.io\""
    );
}

fn any_headers() -> impl Strategy<Value = HeaderMap> {
    let name = prop::sample::select(vec![
        "a",
        "b",
        "c",
        "host",
        "accept",
        "connection",
        "te",
        "upgrade",
        "keep-alive",
        "x-remote-user",
        "x-forwarded-for",
        "warning",
    ]);
    let value = "(a|b|te|trailers|upgrade|host|, |,|x){0,5}";
    prop::collection::vec((name, value), 0..20).prop_map(|all| {
        let all: Vec<_> = all
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        map(&all)
    })
}

proptest! {
    #[test]
    fn the_remaining_fields_keep_their_order_and_duplicates(headers in any_headers(), keep: bool) {
        let mut after = headers.clone();
        to_upstream(&mut after, &IpAddr::from([10, 0, 0, 1]).into(), if keep { Upgrade::Keep } else { Upgrade::Strip });
        let rewritten = |name: &str| ["connection", "te", "x-forwarded-for"].contains(&name);
        let kept: Vec<_> = lines(&headers).into_iter().filter(|(name, _)| after.contains_key(name) && !rewritten(name)).collect();
        let sent: Vec<_> = lines(&after).into_iter().filter(|(name, _)| !rewritten(name)).collect();
        prop_assert_eq!(kept, sent);
        let names: Vec<_> = headers.keys().filter(|name| after.contains_key(*name)).collect();
        let expected: Vec<_> = after.keys().filter(|name| headers.contains_key(*name)).collect();
        prop_assert_eq!(names, expected);
    }

    #[test]
    fn cleaning_twice_is_cleaning_once(mut headers in any_headers(), keep: bool) {
        let upgrade = if keep { Upgrade::Keep } else { Upgrade::Strip };
        to_upstream(&mut headers, &IpAddr::from([10, 0, 0, 1]).into(), upgrade);
        let once = headers.clone();
        to_upstream(&mut headers, &IpAddr::from([10, 0, 0, 1]).into(), upgrade);
        prop_assert_eq!(lines(&headers), lines(&once));
    }
}
