//! The shape that ARCHITECTURE.md promises: imports point down the list in `src/lib.rs`, and each
//! foreign crate has one owner.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Crates that exactly one module may name.
const OWNERS: [(&str, &str); 13] = [
    ("clap", "cli"),
    ("clap_complete", "cli"),
    ("clap_mangen", "cli"),
    ("indicatif", "demo"),
    ("governor", "ratelimit"),
    ("h2", "upstream"),
    ("prometheus", "metrics"),
    ("rcgen", "tls"),
    ("ring", "admin"),
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
                // The model is a control plane of its own, with a PKI and a protocol stack of its
                // own.
                if named && name != owner && name != "model" {
                    strangers.push(format!("{}: {foreign} belongs to {owner}", file.display()));
                }
            }
        }
    }
    assert!(strangers.is_empty(), "{}", strangers.join("\n"));
}

/// So that each has TCP keep-alive. The model is the other side, and the demo its client.
#[test]
fn every_socket_is_made_in_one_place() {
    for name in modules_in_order()
        .iter()
        .filter(|name| !["model", "demo"].contains(&name.as_str()))
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

#[test]
fn the_architecture_page_names_every_module() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let missing: Vec<_> = modules_in_order()
        .into_iter()
        .filter(|name| !page.contains(&format!("`{name}`")))
        .collect();
    assert!(
        missing.is_empty(),
        "ARCHITECTURE.md does not name {missing:?}"
    );
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
    let mut folders = vec![src.join(name)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
            {
                files.push(path);
            }
        }
    }
    files
        .into_iter()
        .map(|file| (file.clone(), code_of(&file)))
        .collect()
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
