//! A kubeconfig that is read is written with the same meaning. What is refused has a line.

#![no_main]

use kube_retry_proxy::kubeconfig::{Kubeconfig, Problem, fuzzing};
use kube_retry_proxy_fuzz::is_printable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| match Kubeconfig::parse(bytes) {
    Ok(read) => {
        let written = fuzzing::written(&read);
        let again = Kubeconfig::parse(written.as_bytes());
        let again = again.unwrap_or_else(|error| panic!("{error:?}\n{written}"));
        assert_eq!(again.to_json(), read.to_json(), "{written}");
        assert_eq!(again.current_context(), read.current_context());
        assert_eq!(fuzzing::written(&again), written);
    }
    Err(error) => {
        // UTF-16 has line breaks of two bytes, and a lone CR is one too.
        assert!(
            (error.line >= 1 || error.problem == Problem::Encoding)
                && error.line <= bytes.len() as u64 + 1,
            "{error:?}"
        );
        is_printable(&error.problem.to_string(), bytes.len());
    }
});
