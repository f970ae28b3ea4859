//! `cargo xtask profile`: what the compiler optimises a release for. The proxy serves the cells of
//! `bench/peers` once, and notes how often each branch of it is taken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::build::{TARGETS, Target};
use super::emptied;
use crate::hash::sha256;
use crate::process::{output, run};
use crate::workspace::{Metadata, cargo, root};

/// The proxy writes its notes at its end, for which it must not wait for idle connections.
const CONFIG: &str = "\
apiVersion: kube-retry-proxy/v1alpha1
kind: ProxyConfiguration
drain: {timeout: 100ms}
";

/// What the executable is built from, and so what a profile belongs to.
const SOURCE: [&str; 4] = ["Cargo.toml", "Cargo.lock", "build.rs", "src"];

pub(crate) fn run_profile() -> Result<()> {
    let changed = output(git(root(), &["status", "--porcelain", "--"]).args(SOURCE))?;
    ensure!(
        changed.is_empty(),
        "a release is built from a commit, and its profile must be of the same source, but these \
         files are not committed:\n{changed}"
    );
    let made = path_for_commit()?;
    let native = TARGETS.into_iter().find(|target| target.is_native());
    let native = native.context("no target of a release runs on this machine")?;
    let merge = llvm_profdata()?;
    let scratch = Metadata::of(root())?.target.join("profile");
    let notes = scratch.join("notes");
    let executable = native.build_noting(root(), &scratch.join("build"))?;
    emptied(&notes)?;
    serve(native, &executable, &notes)?;
    let mut merge = Command::new(merge);
    merge.arg("merge").arg("--output").arg(&made);
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
    println!("{}", made.display());
    Ok(())
}

/// Where the profile for the commit that is checked out is, or will be.
pub(super) fn path_for_commit() -> Result<PathBuf> {
    let folder = Metadata::of(root())?.target.join("profile");
    Ok(folder.join(name_for_commit(root())?))
}

/// A name for what the executable is built from, and with which toolchain.
///
/// A profile of other source names functions that do not exist. The compiler ignores those without a
/// word, and the executable is slower than it could be.
fn name_for_commit(repository: &Path) -> Result<String> {
    let entries = SOURCE.map(|path| format!("HEAD:{path}"));
    let mut made_of = output(git(repository, &["rev-parse"]).args(entries))?;
    made_of.push_str(&output(Command::new("rustc").arg("-vV"))?);
    Ok(format!("{}.profdata", &sha256(made_of.as_bytes())[..16]))
}

fn git(repository: &Path, arguments: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.args(arguments).current_dir(repository);
    git
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_of_the_source_and_the_crates() {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path();
        let commit = |path: &str, text: &str| {
            fs::write(repository.join(path), text).unwrap();
            output(&mut git(repository, &["add", "."])).unwrap();
            let author = ["-c", "user.name=x", "-c", "user.email=x@example.com"];
            output(git(repository, &author).args(["commit", "-m", "x"])).unwrap();
            name_for_commit(repository).unwrap()
        };
        output(&mut git(repository, &["init"])).unwrap();
        fs::create_dir(repository.join("src")).unwrap();
        for path in ["Cargo.toml", "Cargo.lock", "build.rs"] {
            fs::write(repository.join(path), "").unwrap();
        }
        let first = commit("src/main.rs", "fn main() {}");
        assert_eq!(commit("README.md", "Read me"), first);
        let others = commit("Cargo.lock", "h2");
        assert_ne!(others, first);
        assert_ne!(commit("src/main.rs", "fn main() { run() }"), others);
    }
}
