//! This checkout: where it is, and what Cargo knows of it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process::output;

/// The package that this repository is about, and its executable.
pub(crate) const PROXY: &str = "kube-retry-proxy";

/// The repository's root.
#[expect(
    clippy::expect_used,
    reason = "this package is a folder of the workspace"
)]
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a folder of the workspace")
}

/// A call of the cargo that runs this program.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// What `cargo metadata` tells of a workspace.
pub(crate) struct Metadata {
    /// Where Cargo builds.
    pub(crate) target: PathBuf,
    proxy: Value,
}

impl Metadata {
    /// Of the workspace whose root is `folder`.
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
