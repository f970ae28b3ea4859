//! The checkout of this repository, and its metadata from Cargo.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process::output;

/// The main package of this repository, and the name of its executable.
pub(crate) const PROXY: &str = "kube-retry-proxy";

/// The root of the repository.
#[expect(
    clippy::expect_used,
    reason = "this package is a folder of the workspace"
)]
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a folder of the workspace")
}

/// Runs the same cargo that runs this program.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The relevant output of `cargo metadata`.
pub(crate) struct Metadata {
    /// The directory for build output.
    pub(crate) target: PathBuf,
    proxy: Value,
}

impl Metadata {
    /// The metadata of the workspace in `folder`.
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let printed = output(
            cargo()
                .args(["metadata", "--no-deps", "--locked", "--format-version", "1"])
                .current_dir(folder),
        )?;
        let mut metadata: Value = serde_json::from_str(&printed)?;
        let target = metadata["target_directory"]
            .as_str()
            .context("no target_directory")?
            .into();
        let packages = metadata["packages"].as_array_mut().context("no packages")?;
        let proxy = packages
            .iter_mut()
            .find(|package| package["name"] == PROXY)
            .with_context(|| format!("no package {PROXY}"))?
            .take();
        Ok(Self { target, proxy })
    }

    /// A field of the proxy's `[package]`.
    pub(crate) fn field(&self, name: &str) -> Result<&str> {
        self.proxy[name]
            .as_str()
            .with_context(|| format!("Cargo.toml has no `{name}` for {PROXY}"))
    }
}
