//! The watch of EndpointSlices: servers that can be connected to, in one order.

#![no_main]

use kube_retry_proxy::upstream::fuzzing::servers_in;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    let Some(urls) = servers_in(line) else { return };
    assert!(urls.len() <= line.len());
    for url in &urls {
        assert_eq!(url.scheme_str(), Some("https"));
        assert!(url.host().is_some_and(|host| !host.is_empty()), "{url}");
        assert!(url.port_u16().is_some(), "{url}");
        assert_eq!(
            url.path_and_query().map(|path| path.as_str()),
            Some("/"),
            "{url}"
        );
        assert!(!url.authority().unwrap().as_str().contains('@'), "{url}");
    }
    let texts: Vec<_> = urls.iter().map(ToString::to_string).collect();
    assert!(texts.is_sorted() && texts.windows(2).all(|two| two[0] != two[1]));
});
