//! PEM and X.509: files and bundles agree, and nothing is trusted without a root. The input is PEM
//! or DER.

#![no_main]

use kube_retry_proxy::tls::fuzzing;
use libfuzzer_sys::fuzz_target;

/// Within the validity of most of the seeds.
const NOW: u64 = 1_780_000_000;

fuzz_target!(|input: &[u8]| {
    fuzzing::is_certificate(input);
    let (file, bundle) = fuzzing::certificates(input);
    if let Some(file) = &file {
        assert_eq!(Some(file), bundle.as_ref(), "a bundle has what a file has");
    }
    if fuzzing::private_keys(input).is_some() {
        assert!(fuzzing::has_private_key(input));
    }
    let all = bundle.unwrap_or_default();
    assert!(all.iter().map(Vec::len).sum::<usize>() <= input.len());
    let usable = all.iter().any(|der| fuzzing::is_certificate(der));
    assert_eq!(fuzzing::is_authority(input), usable);
    if let [leaf, ..] = &all[..] {
        assert!(
            !fuzzing::is_trusted(std::slice::from_ref(leaf), NOW),
            "there is no root"
        );
    }
    if all.len() > 1 {
        fuzzing::is_trusted(&all, NOW);
    }
});
