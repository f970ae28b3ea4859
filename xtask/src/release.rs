//! `cargo xtask release`: builds all files of a release from the commit that is checked out.
//!
//! The source is exported from git, so that other files cannot affect the build, and built in a
//! folder of its own. The same commit, toolchain and C compiler give the same bytes in any folder.
//! `--verify` builds twice and compares.

mod archive;
mod build;
mod image;
mod profile;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::hash::sha256;
use crate::process::output;
use crate::workspace::{Metadata, PROXY, root};
use archive::Entry;
use build::{TARGETS, Target};
use image::{Image, Platform};
pub(crate) use profile::run_profile;

const SUMS: &str = "SHA256SUMS";

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// Build again in another directory, and fail if any file differs.
    #[arg(long)]
    verify: bool,
    /// Build for this target. The option can be repeated; the default is every target that this
    /// machine can build for.
    #[arg(long, value_name = "TRIPLE", value_parser = TARGETS.map(|target| target.triple))]
    target: Vec<String>,
    /// Optimise by this profile, which becomes part of the release. The default is what
    /// `cargo xtask profile` made of the same source.
    #[arg(long, value_name = "FILE", conflicts_with = "without_profile")]
    profile: Option<PathBuf>,
    /// Do not optimise by a profile. The executable then takes about a tenth more instructions.
    #[arg(long)]
    without_profile: bool,
    /// The directory for the release. An earlier release in it is removed.
    #[arg(long, value_name = "DIR", default_value = "target/dist")]
    output: PathBuf,
}

impl ReleaseArgs {
    fn profile(&self) -> Result<Option<PathBuf>> {
        if self.without_profile {
            return Ok(None);
        }
        if let Some(given) = &self.profile {
            let found = fs::canonicalize(given).with_context(|| given.display().to_string())?;
            return Ok(Some(found));
        }
        let made = profile::path_for_commit()?;
        ensure!(
            made.is_file(),
            "there is no profile of this source: run `cargo xtask profile` first, or use \
             --without-profile"
        );
        Ok(Some(made))
    }
}

/// Returns whether the second build, if requested, has the same files.
pub(crate) fn run(args: &ReleaseArgs) -> Result<bool> {
    env::set_current_dir(root())?;
    let targets = targets(&args.target)?;
    ensure!(
        targets.iter().any(|target| target.is_native()),
        "completions and manual pages need an executable that runs here"
    );
    build::require_cyclonedx()?;
    check_output(&args.output)?;
    if !output(Command::new("git").args(["status", "--porcelain"]))?.is_empty() {
        eprintln!("release: uncommitted changes are not included");
    }
    let commit = Commit::checked_out()?;
    let scratch = Metadata::of(root())?.target.join("release-build");
    let profile = args.profile()?;
    let profile = profile.as_deref();
    let first = scratch.join("first");
    let sums = make(&commit, &targets, profile, &first, &args.output)?;
    println!("{sums}");
    if !args.verify {
        return Ok(true);
    }
    // The second path has a different length, because the length alone changes executables that are
    // not reproducible.
    let again = make(
        &commit,
        &targets,
        profile,
        &scratch.join("second-one"),
        &scratch.join("dist"),
    )?;
    if sums == again {
        println!(
            "verified: a build in another folder has the same {} files",
            sums.lines().count()
        );
    } else {
        println!("DIFFERENT: a build in another folder has\n{again}");
    }
    Ok(sums == again)
}

/// The targets to build for. It is an error if a requested target cannot be built.
fn targets(wanted: &[String]) -> Result<Vec<Target>> {
    let mut possible = Vec::new();
    for target in TARGETS {
        let named = wanted.iter().any(|name| name == target.triple);
        if !wanted.is_empty() && !named {
            continue;
        }
        match target.compiler() {
            Ok(compiler) => {
                eprintln!("release: {} with {compiler}", target.triple);
                possible.push(target);
            }
            Err(why) if named => return Err(why.context(target.triple)),
            Err(why) => eprintln!("release: {} IS SKIPPED: {why:#}", target.triple),
        }
    }
    Ok(possible)
}

struct Commit {
    id: String,
    /// The time of the commit, or SOURCE_DATE_EPOCH. All files of the release have this time.
    epoch: u64,
}

impl Commit {
    fn checked_out() -> Result<Self> {
        let git = |arguments: &[&str]| output(Command::new("git").args(arguments));
        let epoch = match env::var("SOURCE_DATE_EPOCH") {
            Ok(given) => given,
            Err(_) => git(&["log", "-1", "--format=%ct"])?,
        };
        Ok(Self {
            id: git(&["rev-parse", "HEAD"])?.trim().to_owned(),
            epoch: epoch
                .trim()
                .parse()
                .context("SOURCE_DATE_EPOCH is not a number")?,
        })
    }

    /// Exports the files of the commit into an empty folder.
    fn export(&self, to: &Path) -> Result<()> {
        emptied(to)?;
        let mut git = Command::new("git");
        let archive = git.args(["archive", "--format=tar", &self.id]).output()?;
        if !archive.status.success() {
            bail!("git archive: {}", String::from_utf8_lossy(&archive.stderr));
        }
        tar::Archive::new(archive.stdout.as_slice()).unpack(to)?;
        Ok(())
    }
}

/// Builds in `work` and writes the release to `dist`. Returns SHA256SUMS.
fn make(
    commit: &Commit,
    targets: &[Target],
    profile: Option<&Path>,
    work: &Path,
    dist: &Path,
) -> Result<String> {
    // The output of an earlier release may contain the profile.
    let profile = profile.map(fs::read).transpose()?;
    commit.export(work)?;
    let metadata = Metadata::of(work)?;
    let version = metadata.field("version")?;
    check_changelog(&fs::read_to_string(work.join("CHANGELOG.md"))?, version);
    let used = work.join("proxy.profdata");
    if let Some(profile) = &profile {
        fs::write(&used, profile)?;
    }
    let mut platforms = Vec::new();
    for target in targets {
        // The names of functions, and so the profile, are those of the target that it was made on.
        let used = (target.is_native() && profile.is_some()).then_some(&*used);
        platforms.push(Platform {
            architecture: target.architecture,
            executable: target.build(work, used, commit.epoch)?,
            sbom: target.sbom(work, commit.epoch)?,
        });
    }
    let native = targets
        .iter()
        .find(|target| target.is_native())
        .context("no native target")?;
    let common = common_files(work, &native.executable(work))?;

    emptied(dist)?;
    if let Some(profile) = &profile {
        fs::write(dist.join(format!("{PROXY}-{version}.profdata")), profile)?;
    }
    for (target, platform) in targets.iter().zip(&platforms) {
        let name = format!("{PROXY}-{version}-{}", target.triple);
        let mut entries = vec![Entry::executable(PROXY, platform.executable.as_slice())];
        entries.extend(
            common
                .iter()
                .map(|(path, data)| Entry::file(path, data.as_slice())),
        );
        for entry in &mut entries {
            entry.path = format!("{name}/{}", entry.path);
        }
        let packed = archive::gzip(&archive::tar(entries, commit.epoch)?)?;
        fs::write(dist.join(format!("{name}.tar.gz")), packed)?;
        fs::write(dist.join(format!("{name}.cdx.json")), &platform.sbom)?;
        eprintln!(
            "release: {} {}",
            sha256(&platform.executable),
            target.triple
        );
    }
    let image = Image {
        version: version.to_owned(),
        epoch: commit.epoch,
        labels: labels(&metadata, &commit.id)?,
        platforms,
    };
    let layout = image.layout()?;
    // A folder for tools that read `oci:`, and an archive of it for `podman load`.
    let folder = dist.join(format!("{PROXY}-{version}.oci"));
    for file in &layout {
        let path = folder.join(&file.path);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::write(path, &file.data)?;
    }
    let packed = archive::tar(layout, commit.epoch)?;
    fs::write(dist.join(format!("{PROXY}-{version}.oci.tar")), packed)?;
    let sums = checksums(dist)?;
    fs::write(dist.join(SUMS), &sums)?;
    Ok(sums)
}

/// The files that every archive contains in addition to the executable.
fn common_files(source: &Path, executable: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for name in ["LICENSE", "README.md", "CHANGELOG.md"] {
        files.insert(name.to_owned(), fs::read(source.join(name))?);
    }
    for (shell, name) in [
        ("bash", format!("{PROXY}.bash")),
        ("zsh", format!("_{PROXY}")),
        ("fish", format!("{PROXY}.fish")),
    ] {
        let script = output(Command::new(executable).args(["completion", shell]))?;
        files.insert(format!("completions/{name}"), script.into_bytes());
    }
    let pages = source.join("target/man");
    emptied(&pages)?;
    output(Command::new(executable).arg("man").arg(&pages))?;
    for page in fs::read_dir(&pages)? {
        let page = page?;
        let name = page.file_name().to_string_lossy().into_owned();
        files.insert(format!("man/man1/{name}"), fs::read(page.path())?);
    }
    Ok(files)
}

fn labels(metadata: &Metadata, commit: &str) -> Result<BTreeMap<String, String>> {
    let label =
        |name: &str, value: &str| (format!("org.opencontainers.image.{name}"), value.to_owned());
    Ok(BTreeMap::from([
        label("title", PROXY),
        label("description", metadata.field("description")?),
        label("licenses", metadata.field("license")?),
        label("source", metadata.field("repository")?),
        label("version", metadata.field("version")?),
        label("revision", commit),
    ]))
}

/// Writes SHA256SUMS in the format of `sha256sum --check`.
fn checksums(dist: &Path) -> Result<String> {
    let mut sums = BTreeMap::new();
    for entry in fs::read_dir(dist)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            sums.insert(name, sha256(&fs::read(entry.path())?));
        }
    }
    Ok(sums
        .iter()
        .map(|(name, sum)| format!("{sum}  {name}\n"))
        .collect())
}

fn check_changelog(changelog: &str, version: &str) {
    if !names_release(changelog, version) {
        eprintln!("release: CHANGELOG.md has no heading with {version} and a date");
    }
}

/// Whether a heading `## VERSION` or `## [VERSION]` is followed by a date.
fn names_release(changelog: &str, version: &str) -> bool {
    changelog.lines().any(|line| {
        line.strip_prefix("## ").is_some_and(|heading| {
            let heading = heading.trim_start_matches('[');
            heading.strip_prefix(version).is_some_and(|rest| {
                rest.starts_with([']', ' ']) && rest.contains(|char: char| char.is_ascii_digit())
            })
        })
    })
}

/// Fails if the directory contains other files than those of a release, which must not be removed.
fn check_output(folder: &Path) -> Result<()> {
    let taken = folder.exists() && fs::read_dir(folder)?.next().is_some();
    ensure!(
        !taken || folder.join(SUMS).is_file(),
        "{} contains other files than a release",
        folder.display()
    );
    Ok(())
}

fn emptied(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_sorted_by_file_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b", "a"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("c.oci")).unwrap();
        let empty = sha256(b"");
        assert_eq!(
            checksums(folder.path()).unwrap(),
            format!("{empty}  a\n{empty}  b\n")
        );
    }

    #[test]
    fn only_an_earlier_release_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path();
        assert!(check_output(&output.join("new")).is_ok());
        assert!(check_output(output).is_ok());
        fs::write(output.join("notes.txt"), "").unwrap();
        assert!(check_output(output).is_err());
        fs::write(output.join(SUMS), "").unwrap();
        assert!(check_output(output).is_ok());
    }

    #[test]
    fn a_release_has_a_heading_with_a_date() {
        for (changelog, expected) in [
            ("# Changelog\n\n## 0.1.0 - 2030-01-02\n", true),
            ("## [0.1.0] - 2030-01-02\n", true),
            ("## Unreleased\n", false),
            ("## 0.1.0\n", false),
            ("## 0.1.01 - 2030-01-02\n", false),
        ] {
            assert_eq!(names_release(changelog, "0.1.0"), expected, "{changelog}");
        }
    }

    #[test]
    fn a_target_is_selected_by_its_full_triple() {
        use clap::Parser as _;
        #[derive(Debug, clap::Parser)]
        struct Cli {
            #[command(flatten)]
            release: ReleaseArgs,
        }
        assert!(Cli::try_parse_from(["x", "--target", "x86_64-unknown-linux-musl"]).is_ok());
        assert!(Cli::try_parse_from(["x", "--target", "x86_64-unknown-linux-gnu"]).is_err());
    }
}
