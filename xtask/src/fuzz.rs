//! Runs the fuzz targets of `fuzz/` for a time, several at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::process::{everything, exists, output, run};
use crate::workspace::root;

/// The longest input. Longer ones find little and are slow.
const MAX_LENGTH: usize = 16 << 10;
/// An input that takes longer, in seconds, is a finding.
const TIMEOUT: u64 = 10;
/// A target that needs more memory, in MiB, is a finding.
const MEMORY: u64 = 2048;

/// Captured inputs of the repository that a target starts from, beside `fuzz/corpus/TARGET`.
const SAMPLES: &[(&str, &str)] = &[
    ("audit", "tests/samples/audit"),
    ("certificates", "tests/certificates"),
    ("config", "config"),
    ("explain", "tests/samples"),
    ("kubeconfig", "tests/samples/kubeconfig"),
];

#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// The targets: the names of the files in fuzz/fuzz_targets. None: all of them.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many targets run at once [default: one for each processor].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Also keep what was learnt: add to fuzz/corpus the inputs that reach more code.
    #[arg(long)]
    learn: bool,
}

/// What a target did.
struct Outcome {
    target: String,
    inputs: String,
    covered: String,
    /// The end of its log, if it found something.
    found: Option<String>,
}

/// Returns whether nothing was found.
pub(crate) fn run_targets(args: &FuzzArgs) -> Result<bool> {
    let targets = chosen(&args.targets)?;
    tools()?;
    let fuzz = root().join("fuzz");
    // Our code has no unsafe blocks, so the address sanitizer would double the time for little.
    run(Command::new("cargo")
        .args(["+nightly", "fuzz", "build", "--sanitizer", "none"])
        .current_dir(&fuzz))?;
    let executables = fuzz.join("target").join(host()?).join("release");

    let jobs = match args.jobs {
        Some(jobs) => usize::from(jobs),
        None => thread::available_parallelism()?.get(),
    };
    let waiting = Mutex::new(targets.into_iter());
    let next = || waiting.lock().ok()?.next();
    let ran: Vec<Result<Vec<Outcome>>> = thread::scope(|scope| {
        let worker = || {
            std::iter::from_fn(next)
                .map(|target| fuzzed(&executables, target, args))
                .collect()
        };
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| bail!("a worker ended early"))
            })
            .collect()
    });
    let mut outcomes = Vec::new();
    for some in ran {
        outcomes.extend(some?);
    }
    outcomes.sort_by(|one, other| one.target.cmp(&other.target));
    println!(
        "{:<14} {:>12} {:>10}  RESULT",
        "TARGET", "INPUTS", "COVERED"
    );
    for outcome in &outcomes {
        let result = if outcome.found.is_some() {
            "FOUND"
        } else {
            "nothing found"
        };
        println!(
            "{:<14} {:>12} {:>10}  {result}",
            outcome.target, outcome.inputs, outcome.covered
        );
    }
    let mut clean = true;
    for (target, found) in outcomes
        .iter()
        .filter_map(|each| Some((&each.target, each.found.as_ref()?)))
    {
        println!("\n{target} found:\n{found}");
        clean = false;
    }
    Ok(clean)
}

/// The targets that were asked for, or all.
fn chosen(asked: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in fs::read_dir(root().join("fuzz/fuzz_targets"))? {
        let path = file?.path();
        all.extend(
            path.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned()),
        );
    }
    all.sort();
    for target in asked {
        ensure!(
            all.contains(target),
            "no target {target}: one of {}",
            all.join(", ")
        );
    }
    Ok(if asked.is_empty() {
        all
    } else {
        asked.to_vec()
    })
}

/// Says what is missing, or installs it.
fn tools() -> Result<()> {
    let nightly = Command::new("rustc")
        .args(["+nightly", "--version"])
        .output();
    ensure!(
        nightly.is_ok_and(|tried| tried.status.success()),
        "fuzzing needs a nightly toolchain: rustup toolchain install nightly --profile minimal"
    );
    ensure!(
        ["c++", "g++", "clang++"].iter().any(|name| exists(name)),
        "fuzzing needs a C++ compiler, such as g++, for libFuzzer"
    );
    let (installed, _) = everything(Command::new("cargo").args(["fuzz", "--version"]))?;
    if !installed {
        run(Command::new("cargo").args(["install", "cargo-fuzz", "--locked"]))?;
    }
    Ok(())
}

fn host() -> Result<String> {
    let about = output(Command::new("rustc").args(["+nightly", "--version", "--verbose"]))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

fn fuzzed(executables: &Path, target: String, args: &FuzzArgs) -> Result<Outcome> {
    let fuzz = root().join("fuzz");
    let folder = |name: &str| -> Result<PathBuf> {
        let path = fuzz.join(name).join(&target);
        fs::create_dir_all(&path)?;
        Ok(path)
    };
    let committed = folder("corpus")?;
    // libFuzzer writes new inputs into the first folder.
    let grown = folder("target/corpus")?;
    let found = folder("artifacts")?;
    let mut command = Command::new(executables.join(&target));
    command.args([
        format!("-max_total_time={}", args.seconds),
        format!("-max_len={MAX_LENGTH}"),
        format!("-timeout={TIMEOUT}"),
        format!("-rss_limit_mb={MEMORY}"),
        format!("-artifact_prefix={}/", found.display()),
        "-print_final_stats=1".into(),
    ]);
    command.arg(&grown).arg(&committed);
    let samples = SAMPLES.iter().filter(|(name, _)| *name == target);
    command.args(samples.map(|(_, path)| root().join(path)));
    command.env("RUST_BACKTRACE", "0");
    let (passed, log) = everything(command.stdin(Stdio::null()))?;
    let last = |key: &str| {
        let value = log.rsplit(key).next().filter(|_| log.contains(key));
        value
            .and_then(|rest| rest.split_whitespace().next())
            .unwrap_or("-")
            .to_owned()
    };
    if args.learn && passed {
        merge(executables, &target, &committed, &grown)?;
    }
    Ok(Outcome {
        inputs: last("stat::number_of_executed_units:"),
        covered: last(" cov: "),
        found: (!passed).then(|| {
            let lines: Vec<_> = log.lines().filter(|line| !line.starts_with('#')).collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        }),
        target,
    })
}

/// Adds to the committed inputs the fewest that reach all the code that the grown ones reach.
fn merge(executables: &Path, target: &str, committed: &Path, grown: &Path) -> Result<()> {
    let merging = Command::new(executables.join(target))
        .args(["-merge=1", "-max_len=2048"])
        .args([committed, grown])
        .env("RUST_BACKTRACE", "0")
        .output()?;
    ensure!(
        merging.status.success(),
        "cannot merge the corpus of {target}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_declared_and_every_name_is_known() {
        let all = chosen(&[]).unwrap();
        let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
        for target in &all {
            let path = format!("path = \"fuzz_targets/{target}.rs\"");
            assert!(
                manifest.contains(&path),
                "{target} is not in fuzz/Cargo.toml"
            );
        }
        assert_eq!(manifest.matches("[[bin]]").count(), all.len());
        for (target, samples) in SAMPLES {
            assert!(all.iter().any(|name| name == target), "{target}");
            assert!(root().join(samples).is_dir(), "{samples}");
        }
        let unknown = chosen(&["no-such-target".into()]).unwrap_err().to_string();
        assert!(unknown.contains("status"), "{unknown}");
    }
}
