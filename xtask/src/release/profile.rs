//! `cargo xtask profile`: what the compiler optimises a release for. The proxy serves the cells of
//! `bench/peers` once, and notes how often each branch of it is taken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use super::build::{TARGETS, Target};
use super::emptied;
use crate::process::{output, run};
use crate::workspace::{Metadata, cargo, root};

/// The proxy writes its notes at its end, for which it must not wait for idle connections.
const CONFIG: &str = "\
apiVersion: kube-retry-proxy/v1alpha1
kind: ProxyConfiguration
drain: {timeout: 100ms}
";

#[derive(Debug, Args)]
pub(crate) struct ProfileArgs {
    /// The file for the profile.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/kube-retry-proxy.profdata"
    )]
    output: PathBuf,
}

pub(crate) fn run_profile(args: &ProfileArgs) -> Result<()> {
    let native = TARGETS.into_iter().find(|target| target.is_native());
    let native = native.context("no target of a release runs on this machine")?;
    let merge = llvm_profdata()?;
    let scratch = Metadata::of(root())?.target.join("profile");
    let notes = scratch.join("notes");
    let executable = native.build_noting(root(), &scratch.join("build"))?;
    emptied(&notes)?;
    serve(native, &executable, &notes)?;
    let mut merge = Command::new(merge);
    merge.arg("merge").arg("--output").arg(&args.output);
    for note in fs::read_dir(&notes)? {
        let path = note?.path();
        if path.extension().is_some_and(|it| it == "profraw") {
            merge.arg(path);
        }
    }
    ensure!(
        merge.get_args().len() > 3,
        "the proxy left no notes of what it did in {}",
        notes.display()
    );
    run(&mut merge)?;
    println!("{}", args.output.display());
    Ok(())
}

/// Lets the executable serve, with its notes in a folder.
fn serve(target: Target, executable: &Path, notes: &Path) -> Result<()> {
    let config = notes.join("config.yaml");
    fs::write(&config, CONFIG)?;
    let variant = format!(
        "{}={} --config={}",
        target.triple,
        executable.display(),
        config.display()
    );
    if variant.split(' ').count() != 2 {
        bail!("a path with a space cannot be used: {variant}");
    }
    run(cargo()
        .args(["run", "--locked", "--package", "kube-retry-proxy-peers"])
        .args(["--bin", "peers", "--", "--only", "cost", "--rounds", "1"])
        .args(["--contestants", target.triple, "--variant", &variant])
        .env("LLVM_PROFILE_FILE", notes.join("%p.profraw"))
        .current_dir(root()))
}

/// The tool of this toolchain that merges profiles: another version may not read them.
fn llvm_profdata() -> Result<PathBuf> {
    let library = output(Command::new("rustc").args(["--print", "target-libdir"]))?;
    let tool = Path::new(library.trim()).with_file_name("bin/llvm-profdata");
    ensure!(
        tool.is_file(),
        "llvm-profdata of this toolchain is missing: rustup component add llvm-tools"
    );
    Ok(tool)
}
