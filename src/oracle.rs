//! Compares what the proxy makes of generated inputs with what Kubernetes' own code makes of them.
//!
//! `cargo xtask differential` builds the oracle of `tests/controlplane/kubernetes/oracle` and runs
//! the tests that use this.

use std::env;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::process::{Command, Stdio};
use std::thread;

/// The differences that are printed.
const SHOWN: usize = 20;

/// What the proxy makes of an input, compared with the oracle's answer.
pub(crate) enum Compared {
    Same,
    /// Both refuse it, or it never gets as far as this in one of them.
    Skipped,
    Differs(String),
}

/// Generates inputs, asks the oracle about each, and fails with the first that differ. An input is
/// one line.
///
/// # Panics
/// The variables are not set, or there are differences.
pub(crate) fn compare(
    kind: &str,
    mut generate: impl FnMut(&mut fastrand::Rng) -> String + Send,
    mut check: impl FnMut(&str, &str) -> Compared,
) {
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let count: usize = variable("DIFFERENTIAL_COUNT").parse().unwrap();
    let seed: u64 = variable("DIFFERENTIAL_SEED").parse().unwrap();
    let mut oracle = Command::new(variable("DIFFERENTIAL_ORACLE"))
        .arg(kind)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut to = BufWriter::new(oracle.stdin.take().unwrap());
    let mut from = BufReader::new(oracle.stdout.take().unwrap());
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut same, mut skipped, mut differences) = (0, 0, Vec::new());
    thread::scope(|scope| {
        let (inputs, received) = std::sync::mpsc::sync_channel::<String>(1 << 16);
        scope.spawn(move || {
            for _ in 0..count {
                let input = generate(&mut random);
                assert!(!input.contains('\n'), "an input is one line");
                writeln!(to, "{input}").unwrap();
                inputs.send(input).unwrap();
            }
        });
        let mut answer = String::new();
        for input in received {
            answer.clear();
            assert!(from.read_line(&mut answer).unwrap() > 0, "the oracle ended");
            match check(&input, answer.trim_end_matches('\n')) {
                Compared::Same => same += 1,
                Compared::Skipped => skipped += 1,
                Compared::Differs(how) => differences.push(format!("{input}\n    {how}")),
            }
        }
    });
    oracle.wait().unwrap();
    let summary = format!(
        "{kind}: {count} inputs of seed {seed}: {same} the same, {skipped} skipped, {} differ",
        differences.len()
    );
    differences.truncate(SHOWN);
    assert!(
        differences.is_empty(),
        "{summary}\n{}",
        differences.join("\n")
    );
    let _ = writeln!(std::io::stderr(), "{summary}");
}
