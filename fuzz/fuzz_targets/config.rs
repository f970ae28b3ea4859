//! A configuration that is read means the same when /configz has shown it.

#![no_main]

use kube_retry_proxy::config::{file, show};
use kube_retry_proxy_fuzz::is_printable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = match file::text(bytes) {
        Ok(text) => text,
        Err(mistakes) => return is_printable(&mistakes.to_string(), bytes.len()),
    };
    let lines = bytes
        .iter()
        .filter(|byte| **byte == b'\n' || **byte == b'\r')
        .count() as u64;
    for warning in file::warnings(text) {
        assert!(warning.line.is_none_or(|line| line <= lines + 1));
    }
    match file::parse(text) {
        Ok(config) => {
            let shown = show(&config);
            let again = file::parse(&shown.to_string());
            let again = again.unwrap_or_else(|mistakes| panic!("{mistakes}\n{shown}"));
            assert_eq!(show(&again), shown);
        }
        Err(mistakes) => {
            assert!(!mistakes.0.is_empty());
            for mistake in &mistakes.0 {
                assert!(
                    mistake
                        .line
                        .is_none_or(|line| line >= 1 && line <= lines + 1),
                    "{mistake:?}"
                );
            }
            is_printable(&mistakes.to_string(), bytes.len());
        }
    }
});
