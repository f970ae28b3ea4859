//! Audit logs: the same events, compressed or not, and each with what its report needs.

#![no_main]

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use kube_retry_proxy::cli::explain::audit::event::{Answer, read_line};
use kube_retry_proxy::cli::explain::audit::fuzzing::lines;
use kube_retry_proxy::verdict::Class;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|log: &[u8]| {
    let plain = events(log);
    for event in &plain {
        assert!(event.0 > 0, "an object has a namespace");
    }
    if !log.starts_with(&[0x1f, 0x8b]) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(log).unwrap();
        assert_eq!(events(&encoder.finish().unwrap()), plain);
    }
});

/// The lengths of the namespace and the resource of each event, and its class.
fn events(log: &[u8]) -> Vec<(usize, usize, Option<Class>)> {
    let mut seen = Vec::new();
    lines(log, |line| {
        let before = seen.len();
        // A line that turns out to be none has perhaps told of events before.
        let _ = read_line(line, |event| {
            let class = match event.answer {
                Answer::Is { class, created } => {
                    assert!(!created || class == Class::Success);
                    Some(class)
                }
                Answer::Pending | Answer::Missing => None,
            };
            seen.push((event.namespace.len(), event.resource.len(), class));
        });
        assert!(seen.len() - before <= line.len() / 2);
    });
    seen
}
