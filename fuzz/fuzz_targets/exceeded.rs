//! The messages of full quotas: what quota admission writes is read, and nothing that a client or a
//! webhook writes. The input is the cause of a 403, or lines of quantities.

#![no_main]

use std::fmt::Write as _;

use http::StatusCode;
use kube_retry_proxy::quantity::Quantity;
use kube_retry_proxy::status::{Details, Status};
use kube_retry_proxy::verdict::{Class, Exceeded, Shortage, classify_status};
use kube_retry_proxy_fuzz::{is_printable, lines};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    cause(text);
    written(input);
});

/// The cause as of the apiserver, of a webhook, and in a name.
fn cause(cause: &str) {
    let status = status("a", &format!("pods \"a\" is forbidden: {cause}"));
    if let Some(exceeded) = Exceeded::of(&status) {
        assert_eq!(
            classify_status(StatusCode::FORBIDDEN, &status),
            Class::ExceededQuota
        );
        assert!(!exceeded.quota.is_empty() && !exceeded.shortages.is_empty());
        for each in &exceeded.shortages {
            assert!(each.asked.is_positive() && each.used.plus(each.asked).unwrap() > each.limit);
            assert!(!each.resource.is_empty());
        }
        let is_above = |each: &Shortage| {
            // What is too far below 0 to be computed is below 0.
            let left = each.limit.minus(each.asked);
            left.is_none_or(|left| left < Quantity::default())
        };
        assert_eq!(
            exceeded.can_never_fit(),
            exceeded.shortages.iter().any(is_above)
        );
        let shown = exceeded.to_string();
        is_printable(&shown, cause.len());
        assert!(!shown.contains('\n'), "{shown}");
    }
    let denied = format!("admission webhook \"w\" denied the request: {cause}");
    assert_eq!(Exceeded::of(&self::status("a", &denied)), None);
    // The name may say anything, but the cause is another.
    let name = format!("a\" is forbidden: {cause}");
    let message = format!("pods \"{name}\" is forbidden: no");
    assert_eq!(Exceeded::of(&self::status(&name, &message)), None);
}

/// Lines of what was asked for, used and the limit, in the words of quota admission.
fn written(input: &[u8]) {
    let mut lists = [String::new(), String::new(), String::new()];
    let mut expected = Vec::new();
    for (index, line) in lines(input).take(64).enumerate() {
        let mut words = line
            .split(|byte| *byte == b' ')
            .map(|word| str::from_utf8(word).ok());
        let (Some(Some(asked)), Some(Some(used)), Some(Some(limit)), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return;
        };
        let texts = [asked, used, limit];
        let [Ok(asked), Ok(used), Ok(limit)] = texts.map(str::parse::<Quantity>) else {
            return;
        };
        if !asked.is_positive() || used.plus(asked).is_none_or(|sum| sum <= limit) {
            return;
        }
        for (list, text) in lists.iter_mut().zip(texts) {
            let comma = if index == 0 { "" } else { "," };
            write!(list, "{comma}count/r{index}.example.com={text}").unwrap();
        }
        expected.push((format!("count/r{index}.example.com"), asked, used, limit));
    }
    let [requested, used, limited] = lists;
    let cause =
        format!("exceeded quota: q, requested: {requested}, used: {used}, limited: {limited}");
    let read = Exceeded::of(&status("a", &format!("pods \"a\" is forbidden: {cause}")));
    let shortages = read
        .unwrap_or_else(|| panic!("{cause} is not read"))
        .shortages;
    let read: Vec<_> = shortages
        .iter()
        .map(|each| (each.resource.to_string(), each.asked, each.used, each.limit))
        .collect();
    assert_eq!(read, expected);
}

fn status(name: &str, message: &str) -> Status {
    Status {
        code: 403,
        reason: "Forbidden".into(),
        message: message.into(),
        details: Details {
            name: name.into(),
            kind: "pods".into(),
            ..Details::default()
        },
    }
}
