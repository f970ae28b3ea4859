//! Checks the structure described in ARCHITECTURE.md: imports point down the list in `src/lib.rs`,
//! each foreign crate has one owner, and the code that judges the proxy does not depend on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Foreign crates that only one module may use.
const OWNERS: [(&str, &str); 18] = [
    ("aws_lc_rs", "tls"),
    ("clap", "cli"),
    ("clap_complete", "cli"),
    ("clap_mangen", "cli"),
    ("flate2", "cli"),
    ("memchr", "cli"),
    ("mimalloc", "main"),
    ("indicatif", "demo"),
    ("model_control_plane", "demo"),
    ("governor", "ratelimit"),
    ("granit_parser", "kubeconfig"),
    ("h2", "upstream"),
    ("prometheus", "metrics"),
    ("rcgen", "tls"),
    ("socket2", "connections"),
    ("tower", "budget"),
    ("tracing_subscriber", "telemetry"),
    ("x509_cert", "tls"),
];

#[test]
fn imports_only_point_down() {
    let order = modules_in_order();
    let rank: BTreeMap<_, _> = order
        .iter()
        .enumerate()
        .map(|(rank, name)| (name.as_str(), rank))
        .collect();
    let mut upward = Vec::new();
    for name in &order {
        for (file, text) in sources_of(name) {
            for target in text.split("crate::").skip(1).map(first_word) {
                let Some(target_rank) = rank.get(target) else {
                    continue;
                };
                if *target_rank < rank[name.as_str()] {
                    upward.push(format!("{}: crate::{target}", file.display()));
                }
            }
        }
    }
    assert!(
        upward.is_empty(),
        "these imports point up:\n{}",
        upward.join("\n")
    );
}

#[test]
fn each_foreign_crate_has_one_owner() {
    let mut strangers = Vec::new();
    for name in modules_in_order() {
        for (file, text) in sources_of(&name) {
            for (foreign, owner) in OWNERS {
                let named = [format!("use {foreign}::"), format!(" {foreign}::")]
                    .iter()
                    .any(|form| text.contains(form));
                if named && name != owner {
                    strangers.push(format!("{}: {foreign} belongs to {owner}", file.display()));
                }
            }
        }
    }
    assert!(strangers.is_empty(), "{}", strangers.join("\n"));
}

/// Only one module opens TCP connections, so that all of them have keep-alive. The demo has its own
/// client.
#[test]
fn every_socket_is_made_in_one_place() {
    for name in modules_in_order()
        .iter()
        .filter(|name| name.as_str() != "demo")
    {
        for (file, code) in sources_of(name) {
            let makes = ["TcpStream::connect(", "TcpSocket::", ".accept().await"]
                .iter()
                .any(|call| code.contains(call));
            assert!(
                !makes || file.ends_with("connections/socket.rs"),
                "{} makes a socket by itself",
                file.display()
            );
        }
    }
}

/// The model judges the proxy, and the test support runs both. The proxy depends on the model only
/// for its demo.
#[test]
fn packages_depend_in_one_direction() {
    const MODEL: &str = "model-control-plane";
    const PROXY: &str = "kube-retry-proxy";
    const SUPPORT: &str = "kube-retry-proxy-support";
    let ours = |manifest: &str, table: &str| -> Vec<_> {
        let manifest = fs::read_to_string(root().join(manifest)).unwrap();
        dependencies(&manifest, table)
            .filter(|name| [MODEL, PROXY, SUPPORT].contains(&name.as_str()))
            .collect()
    };
    for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
        assert!(ours("model/Cargo.toml", table).is_empty(), "{table}");
    }
    assert_eq!(
        ours("tests/support/Cargo.toml", "dependencies"),
        [PROXY, MODEL]
    );
    assert_eq!(ours("Cargo.toml", "dependencies"), [MODEL]);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(
        manifest.contains("model-control-plane = { workspace = true, optional = true }"),
        "the proxy can be built without the model"
    );
}

#[test]
fn what_judges_the_proxy_shares_no_code_with_it() {
    let mut judges = rust_files(root().join("model/src"));
    judges.extend(rust_files(root().join("tests/abuse")));
    let support = rust_files(root().join("tests/support/src"));
    judges.extend(support.into_iter().filter(|file| !file.ends_with("rig.rs")));
    assert!(judges.len() > 50, "{}", judges.len());
    for file in judges {
        let code = code_of(&file);
        let named = [
            "kube_retry_proxy::",
            "kube_retry_proxy as",
            "kube_retry_proxy_support",
        ]
        .iter()
        .any(|name| code.contains(name));
        assert!(!named, "{} uses the proxy", file.display());
    }
}

/// The names in one table of a manifest.
fn dependencies(manifest: &str, table: &str) -> impl Iterator<Item = String> {
    let header = format!("[{table}]");
    manifest
        .lines()
        .skip_while(move |line| *line != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| Some(line.split(['.', ' ', '=']).next()?.to_owned()))
}

#[test]
fn the_architecture_page_lists_the_modules_in_order() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, table) = text.split_once("## Modules").unwrap();
    let rows = table.lines().filter_map(|line| {
        let name = line.strip_prefix('|')?.split('|').nth(1)?.trim();
        Some(name.strip_prefix('`')?.strip_suffix('`')?.to_owned())
    });
    assert_eq!(rows.collect::<Vec<_>>(), modules_in_order());
}

fn modules_in_order() -> Vec<String> {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let order: Vec<_> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    assert!(order.len() > 20, "src/lib.rs lists the modules");
    order
}

/// The code of a module, without comments and tests.
fn sources_of(name: &str) -> Vec<(PathBuf, String)> {
    let src = root().join("src");
    let mut files = vec![src.join(format!("{name}.rs"))];
    files.extend(rust_files(src.join(name)));
    files.retain(|file| !file.ends_with("tests.rs"));
    files
        .into_iter()
        .map(|file| (file.clone(), code_of(&file)))
        .collect()
}

/// The files of a folder and its subfolders.
fn rust_files(folder: PathBuf) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

fn code_of(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let code = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
        .unwrap_or_default()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
