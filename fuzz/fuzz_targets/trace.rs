//! A trace goes on with the caller's id, and what the proxy writes is what it reads.

#![no_main]

use kube_retry_proxy::trace::fuzzing::continued;
use kube_retry_proxy_fuzz::{headers, lines};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut headers = headers(lines(input));
    let Some((id, parent, state, sampled)) = continued(&mut headers, 7) else {
        return;
    };
    assert!(id != 0 && parent != 0);
    let again = continued(&mut headers, 8);
    assert_eq!(again, Some((id, 7, state, sampled)));
    let written = headers["traceparent"].to_str().unwrap();
    assert_eq!((written.len(), &written[..3]), (55, "00-"));
});
