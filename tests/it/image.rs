//! The Dockerfile copies all that Cargo reads to build the executable. No engine is needed to see it.

use std::path::Path;
use std::process::Command;

/// The instructions of the build stage before the build, with their continuation lines joined.
fn instructions(dockerfile: &str) -> Vec<(String, String)> {
    let joined = dockerfile.replace("\\\n", " ");
    let before_build = joined
        .lines()
        .take_while(|line| !line.contains("xx-cargo build"));
    before_build
        .filter_map(|line| line.split_once(' '))
        .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
        .collect()
}

#[test]
fn the_image_gets_all_that_its_build_reads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dockerfile = std::fs::read_to_string(root.join("deploy/Dockerfile")).unwrap();
    let context = tempfile::tempdir().unwrap();
    let sh = |script: &str| {
        let ran = Command::new("sh")
            .args(["-ec", script])
            .current_dir(context.path())
            .env("CONTEXT", root)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{script}: {errors}");
    };
    for (name, rest) in instructions(&dockerfile) {
        match name.as_str() {
            "COPY" if !rest.starts_with("--from") => {
                let mut paths: Vec<_> = rest.split_whitespace().collect();
                let to = paths.pop().unwrap();
                for from in paths {
                    let is_folder = root.join(from).is_dir();
                    let from = if is_folder {
                        format!("{from}/.")
                    } else {
                        from.to_owned()
                    };
                    sh(&format!("mkdir -p {to}; cp -r \"$CONTEXT\"/{from} {to}"));
                }
            }
            "RUN" if rest.starts_with("mkdir") => sh(&rest),
            _ => {}
        }
    }
    let read = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--locked",
            "--offline",
            "--no-deps",
            "--format-version",
            "1",
        ])
        .current_dir(context.path())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success(), "{errors}");
    for read in ["build.rs", "src/main.rs", "src/lib.rs", "src/memory.c"] {
        assert!(context.path().join(read).is_file(), "{read} is missing");
    }
}
