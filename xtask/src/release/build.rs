//! Builds static executables that depend only on the source and the toolchain, and their SBOMs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{exists, output, run};
use crate::workspace::{PROXY, cargo};

/// The version of cargo-cyclonedx, also used in deploy/Dockerfile.
const CYCLONEDX: &str = "0.5.9";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) triple: &'static str,
    /// The architecture in Rust's naming.
    rust_architecture: &'static str,
    /// The architecture in the naming of Go and OCI.
    pub(super) architecture: &'static str,
    /// `e_machine` of the target's ELF files.
    machine: u16,
    /// C compilers for AWS-LC, in the order of preference. Debian's `package` contains the last one.
    compilers: [&'static str; 2],
    package: &'static str,
}

pub(super) const TARGETS: [Target; 2] = [
    Target {
        triple: "x86_64-unknown-linux-musl",
        rust_architecture: "x86_64",
        architecture: "amd64",
        machine: 62,
        compilers: ["x86_64-linux-musl-gcc", "x86_64-linux-gnu-gcc"],
        package: "gcc-x86-64-linux-gnu",
    },
    Target {
        triple: "aarch64-unknown-linux-musl",
        rust_architecture: "aarch64",
        architecture: "arm64",
        machine: 183,
        compilers: ["aarch64-linux-musl-gcc", "aarch64-linux-gnu-gcc"],
        package: "gcc-aarch64-linux-gnu",
    },
];

impl Target {
    /// Whether this machine can run executables of this target.
    pub(super) fn is_native(self) -> bool {
        self.rust_architecture == env::consts::ARCH
    }

    /// The C compiler for this target. The error says what this machine lacks.
    pub(super) fn compiler(self) -> Result<String> {
        let rustc = ["--print", "target-libdir", "--target", self.triple];
        let library = output(Command::new("rustc").args(rustc))?;
        ensure!(
            Path::new(library.trim()).exists(),
            "Rust's library for this target is missing (rustup target add {})",
            self.triple
        );
        // The variables that cc and cargo honour take precedence here too.
        let variable = format!("CC_{}", self.triple.replace('-', "_"));
        if let Ok(given) = env::var(&variable) {
            return Ok(given);
        }
        let [musl, gnu] = self.compilers;
        let native = self.is_native().then_some("musl-gcc");
        let found = [Some(musl), native, Some(gnu)]
            .into_iter()
            .flatten()
            .find(|name| exists(name));
        found.map(str::to_owned).with_context(|| {
            format!(
                "a C compiler for this target is missing (Debian: {}; or set {variable})",
                self.package
            )
        })
    }

    /// Builds the executable from a source tree, optimised for what a profile of it says.
    pub(super) fn build(
        self,
        source: &Path,
        profile: Option<&Path>,
        epoch: u64,
    ) -> Result<Vec<u8>> {
        let used = profile.map(|profile| format!("-Cprofile-use={}", profile.display()));
        let mut build = self.command(source, &source.join("target"), used)?;
        run(build.env("SOURCE_DATE_EPOCH", epoch.to_string()))?;
        let path = self.executable(source);
        let executable = fs::read(&path).with_context(|| path.display().to_string())?;
        check_static(&executable, self.machine)?;
        Places::of(source)?.check_absent(&executable)?;
        Ok(executable)
    }

    /// Builds an executable that notes what it does, for a profile. Returns its path.
    pub(super) fn build_noting(self, source: &Path, into: &Path) -> Result<PathBuf> {
        run(&mut self.command(source, into, Some("-Cprofile-generate".into()))?)?;
        Ok(into.join(self.triple).join("release").join(PROXY))
    }

    fn command(self, source: &Path, into: &Path, flag: Option<String>) -> Result<Command> {
        let compiler = self.compiler()?;
        let places = Places::of(source)?;
        let variable = self.triple.replace('-', "_");
        let mut flags = places.remap("--remap-path-prefix=");
        // What a profile finds to run often comes together, on a tenth of the pages.
        let together = "-Clink-arg=-zkeep-text-section-prefix";
        let fixed = ["-Cstrip=symbols", "-Ctarget-feature=+crt-static", together];
        flags.extend(fixed.map(str::to_owned));
        flags.extend(flag);
        // Debian's compilers for glibc also compile for musl, except for the checks of
        // _FORTIFY_SOURCE, which some distributions enable.
        let mut c_flags = places.remap("-ffile-prefix-map=");
        c_flags.push("-U_FORTIFY_SOURCE".into());
        // AWS-LC needs `linux/random.h`, which Debian's compiler for musl does not find. What musl
        // has is still found first.
        let own = format!("/usr/include/{}-linux-gnu", self.rust_architecture);
        c_flags.extend(["/usr/include", &own].map(|folder| format!("-idirafter{folder}")));
        let mut build = cargo();
        build
            .args(["build", "--release", "--locked", "--no-default-features"])
            .args(["--package", PROXY, "--bin", PROXY, "--target", self.triple])
            .current_dir(source)
            .env_remove("RUSTFLAGS")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("CARGO_TARGET_DIR", into)
            // Rust's own linker and start files, so that nothing of this machine gets into the
            // executable.
            .env(
                format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase()),
                "rust-lld",
            )
            // What this machine has installed must not get in.
            .env("AWS_LC_SYS_USE_SYSTEM", "0")
            .env(format!("CC_{variable}"), compiler)
            .env(format!("CFLAGS_{variable}"), c_flags.join(" "));
        Ok(build)
    }

    pub(super) fn executable(self, source: &Path) -> PathBuf {
        source
            .join("target")
            .join(self.triple)
            .join("release")
            .join(PROXY)
    }

    /// The dependencies of the executable, in CycloneDX format.
    pub(super) fn sbom(self, source: &Path, epoch: u64) -> Result<Vec<u8>> {
        let mut command = cargo();
        command
            .args(["cyclonedx", "--format", "json", "--describe", "binaries"])
            .args(["--no-default-features", "--target", self.triple])
            .current_dir(source)
            // This variable also makes cargo-cyclonedx omit the random serial number.
            .env("SOURCE_DATE_EPOCH", epoch.to_string());
        output(&mut command)?;
        let file = source.join(format!("{PROXY}_bin.cdx.json"));
        let sbom = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        fs::remove_file(file)?;
        let sbom = Places::of(source)?.replaced(&sbom);
        Ok(sbom.into_bytes())
    }
}

/// Fails if cargo-cyclonedx is missing. The error says how to install it.
pub(super) fn require_cyclonedx() -> Result<()> {
    if output(cargo().args(["cyclonedx", "--version"])).is_err() {
        bail!(
            "cargo-cyclonedx, which generates the SBOM, is missing: \
             cargo install --locked cargo-cyclonedx@{CYCLONEDX}"
        );
    }
    Ok(())
}

/// Folders of this machine that must not appear in the executable, with their replacements.
struct Places([(String, &'static str); 2]);

impl Places {
    fn of(source: &Path) -> Result<Self> {
        let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"));
        let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
        let cargo_home = cargo_home.context("neither CARGO_HOME nor HOME is set")?;
        let text = |path: &Path| {
            path.to_str()
                .map(str::to_owned)
                .context("a path that is not UTF-8")
        };
        Ok(Self([
            (text(source)?, "/src"),
            (text(&cargo_home)?, "/cargo"),
        ]))
    }

    fn remap(&self, flag: &str) -> Vec<String> {
        self.0
            .iter()
            .map(|(place, name)| format!("{flag}{place}={name}"))
            .collect()
    }

    fn replaced(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (place, name)| {
            text.replace(place, name)
        })
    }

    fn check_absent(&self, executable: &[u8]) -> Result<()> {
        for (place, _) in &self.0 {
            let found = executable
                .windows(place.len())
                .any(|part| part == place.as_bytes());
            ensure!(
                !found,
                "the executable contains the path {place}, so it depends on the build folder"
            );
        }
        Ok(())
    }
}

/// Checks that the file is a 64-bit ELF file for this architecture without a dynamic loader.
fn check_static(elf: &[u8], machine: u16) -> Result<()> {
    const PT_INTERP: u32 = 3;
    let u16_at = |at: usize| Some(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(elf.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(elf.get(at..at + 8)?.try_into().ok()?));
    ensure!(elf.starts_with(b"\x7fELF\x02\x01"), "not a 64-bit ELF file");
    ensure!(
        u16_at(18) == Some(machine),
        "an executable for another architecture"
    );
    let table: usize = u64_at(32).context("the header is truncated")?.try_into()?;
    let (size, count) = u16_at(54)
        .zip(u16_at(56))
        .context("the header is truncated")?;
    for index in 0..usize::from(count) {
        let kind =
            u32_at(table + index * usize::from(size)).context("the segments are truncated")?;
        ensure!(kind != PT_INTERP, "the executable needs a dynamic loader");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: u16, segments: &[u32]) -> Vec<u8> {
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18..20].copy_from_slice(&machine.to_le_bytes());
        elf[32..40].copy_from_slice(&64_u64.to_le_bytes());
        elf[54..56].copy_from_slice(&56_u16.to_le_bytes());
        elf[56..58].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_le_bytes());
        for kind in segments {
            elf.extend(kind.to_le_bytes());
            elf.extend([0; 52]);
        }
        elf
    }

    #[test]
    fn rejects_a_dynamic_executable() {
        assert!(check_static(&elf(62, &[6, 1, 2]), 62).is_ok());
        let error = check_static(&elf(62, &[6, 3]), 62).unwrap_err().to_string();
        assert!(error.contains("dynamic loader"), "{error}");
    }

    #[test]
    fn rejects_an_executable_for_another_architecture() {
        assert!(check_static(&elf(183, &[1]), 62).is_err());
        assert!(check_static(b"#!/bin/sh", 62).is_err());
        assert!(check_static(&elf(62, &[1])[..70], 62).is_ok());
        assert!(check_static(&elf(62, &[1])[..65], 62).is_err());
    }

    #[test]
    fn rejects_an_executable_that_contains_a_local_path() {
        let places = Places([
            ("/tmp/build-1".into(), "/src"),
            ("/home/me/.cargo".into(), "/cargo"),
        ]);
        assert!(places.check_absent(b"panicked at /src/main.rs").is_ok());
        assert!(places.check_absent(b"at /home/me/.cargo/registry").is_err());
        assert_eq!(
            places.remap("-f="),
            ["-f=/tmp/build-1=/src", "-f=/home/me/.cargo=/cargo"]
        );
        assert_eq!(
            places.replaced("path+file:///tmp/build-1#0.1.0"),
            "path+file:///src#0.1.0"
        );
    }

    #[test]
    fn architectures_have_their_go_names() {
        assert_eq!(
            TARGETS.map(|target| target.architecture),
            ["amd64", "arm64"]
        );
    }
}
