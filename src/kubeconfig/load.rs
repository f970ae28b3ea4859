//! Kubeconfigs in memory: one file, or a list of files that count as one, as `KUBECONFIG` names
//! them.
//!
//! The first file that has a cluster, user or context of a name wins, and so does the first
//! `current-context`. A file of a list may be missing
//! (<https://github.com/kubernetes/client-go/blob/v0.34.0/tools/clientcmd/loader.go#L167>).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::compose::compose;
use super::mistake::{Oddity, ParseError};
use super::shape::check;
use super::text::decode;
use super::{KubeconfigError, Place};
use crate::config::yaml::{Node, YamlValue};

/// The lists of a kubeconfig whose entries have names, with the field of their values.
const LISTS: [(&str, &str); 4] = [
    ("clusters", "cluster"),
    ("contexts", "context"),
    ("users", "user"),
    ("extensions", "extension"),
];

/// One or more files that count as one kubeconfig.
#[derive(Debug)]
pub struct Kubeconfig {
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    root: Node,
    oddities: Vec<Oddity>,
}

/// A cluster, context or user.
#[derive(Clone, Copy)]
pub(super) struct Found<'t> {
    path: &'t Path,
    entry: &'t Node,
    /// None: the entry has no value.
    pub(super) body: Option<&'t Node>,
}

impl Kubeconfig {
    /// Reads a kubeconfig from the bytes of a file, as kubectl reads it: the same text means the
    /// same, and what kubectl refuses for its meaning is refused. Relative paths in it stay relative,
    /// because nothing says where the file is.
    ///
    /// # Errors
    /// The text is not YAML, or not a kubeconfig. The error has the line.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        Ok(Self {
            files: vec![File::parse(PathBuf::new(), bytes)?],
        })
    }

    /// Reads the file at a path, or the files of a list like `a:b:c`.
    ///
    /// # Errors
    /// A file cannot be read or is not a kubeconfig, or no file of a list exists.
    pub fn load(list: &Path) -> Result<Self, KubeconfigError> {
        let paths = paths_of(list);
        let mut files = Vec::new();
        for path in &paths {
            let bytes = match fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound && *path != list => continue,
                Err(source) => {
                    let path = path.clone();
                    return Err(KubeconfigError::Read { path, source });
                }
            };
            let file = File::parse(path.clone(), &bytes);
            files.push(file.map_err(|source| {
                let place = Place::new(path, source.line);
                KubeconfigError::Parse { place, source }
            })?);
        }
        if files.is_empty() {
            return Err(KubeconfigError::NoFile { paths });
        }
        Ok(Self { files })
    }

    /// Whether this is one of the files, also by another name or through a link.
    pub fn has_file(&self, path: &Path) -> bool {
        let id = |path: &Path| {
            let there = fs::metadata(path).ok()?;
            Some((there.dev(), there.ino()))
        };
        let wanted = id(path);
        wanted.is_some() && self.files.iter().any(|file| id(&file.path) == wanted)
    }

    /// The name of the current context. None: no file sets it.
    pub fn current_context(&self) -> Option<&str> {
        self.files
            .iter()
            .find_map(|file| file.root.text("current-context"))
    }

    /// The whole kubeconfig as one tree, as `kubectl config view --raw --merge` prints it, except
    /// that unknown fields stay.
    pub fn to_json(&self) -> serde_json::Value {
        json(&self.merged().value)
    }

    /// What is read as kubectl reads it, and may not be meant.
    pub(super) fn oddities(&self) -> impl Iterator<Item = (Place, &Oddity)> {
        self.files.iter().flat_map(|file| {
            let oddities = file.oddities.iter();
            oddities.map(|oddity| (Place::new(&file.path, oddity.line), oddity))
        })
    }

    /// The entry of a list with this name.
    pub(super) fn find(&self, list: &str, name: &str) -> Option<Found<'_>> {
        self.entries(list).find(|found| found.name() == name)
    }

    /// All entries of a list, also those that another one of the same name hides.
    pub(super) fn entries(&self, list: &str) -> impl Iterator<Item = Found<'_>> {
        let field = LISTS
            .iter()
            .find(|(name, _)| *name == list)
            .map_or("", |(_, field)| field);
        self.files.iter().flat_map(move |file| {
            file.root.items(list).iter().map(move |entry| Found {
                path: &file.path,
                entry,
                body: entry.get(field),
            })
        })
    }

    /// One tree with the entries of all files. Relative paths in it are absolute, because each is
    /// relative to its own file.
    pub(super) fn merged(&self) -> Node {
        let mut merged = Node {
            line: 0,
            value: YamlValue::Map(Vec::new()),
        };
        for file in &self.files {
            let mut root = file.root.clone();
            if !file.path.as_os_str().is_empty() {
                resolve_paths(&mut root, directory(&file.path));
            }
            let YamlValue::Map(entries) = root.value else {
                continue;
            };
            for entry in entries {
                let is_list = LISTS.iter().any(|(list, _)| *list == entry.key);
                match merged.get_mut(&entry.key) {
                    Some(there) if is_list => add(there, entry.node),
                    Some(there) if !is_empty(there) => {}
                    _ => merged.set(&entry.key, entry.node.value),
                }
            }
        }
        merged
    }
}

impl File {
    fn parse(path: PathBuf, bytes: &[u8]) -> Result<Self, ParseError> {
        let document = compose(&decode(bytes)?)?;
        check(&document.root)?;
        Ok(Self {
            path,
            root: document.root,
            oddities: document.oddities,
        })
    }
}

impl<'t> Found<'t> {
    pub(super) fn name(&self) -> &'t str {
        self.entry.text("name").unwrap_or_default()
    }

    /// The text of a field of the value.
    pub(super) fn text(&self, field: &str) -> Option<&'t str> {
        self.body?.text(field)
    }

    /// True if the field of the value is `true`.
    pub(super) fn flag(&self, field: &str) -> bool {
        self.body.is_some_and(|body| body.flag(field))
    }

    /// A path of the value, relative to the file that names it.
    pub(super) fn path(&self, field: &str) -> Option<PathBuf> {
        let path = self.text(field)?;
        Some(absolute(directory(self.path), path))
    }

    /// The line of a field of the value, or of the entry.
    pub(super) fn place(&self, field: &str) -> Place {
        let field = self.body.and_then(|body| body.get(field));
        Place::new(self.path, field.unwrap_or(self.entry).line)
    }
}

/// The files that an argument names. A file with a colon in its name is a file.
fn paths_of(list: &Path) -> Vec<PathBuf> {
    if list.exists() || !list.as_os_str().as_encoded_bytes().contains(&b':') {
        return vec![list.to_owned()];
    }
    let mut paths: Vec<PathBuf> = Vec::new();
    for path in std::env::split_paths(list) {
        if !path.as_os_str().is_empty() && !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// Adds the entries whose names the list does not have.
fn add(there: &mut Node, more: Node) {
    let (YamlValue::List(there), YamlValue::List(more)) = (&mut there.value, more.value) else {
        return;
    };
    let known: std::collections::HashSet<String> = there
        .iter()
        .map(|entry| entry.text("name").unwrap_or_default().to_owned())
        .collect();
    there.extend(
        more.into_iter()
            .filter(|entry| !known.contains(entry.text("name").unwrap_or_default())),
    );
}

fn is_empty(node: &Node) -> bool {
    match &node.value {
        YamlValue::Null => true,
        YamlValue::Text(text) => text.is_empty(),
        YamlValue::List(items) => items.is_empty(),
        YamlValue::Map(entries) => entries.is_empty(),
        _ => false,
    }
}

fn resolve_paths(root: &mut Node, directory: &Path) {
    for (list, body, fields) in [
        ("clusters", "cluster", &["certificate-authority"][..]),
        (
            "users",
            "user",
            &["client-certificate", "client-key", "tokenFile"][..],
        ),
    ] {
        for entry in root.items_mut(list) {
            let Some(body) = entry.get_mut(body) else {
                continue;
            };
            for field in fields {
                resolve_path(body, field, directory);
            }
            // client-go looks a command without a slash up in PATH.
            if let Some(exec) = body.get_mut("exec").filter(|exec| {
                exec.text("command")
                    .is_some_and(|command| command.contains('/'))
            }) {
                resolve_path(exec, "command", directory);
            }
        }
    }
}

fn resolve_path(body: &mut Node, field: &str, directory: &Path) {
    if let Some(path) = body.text(field) {
        let path = absolute(directory, path).to_string_lossy().into_owned();
        body.set(field, YamlValue::Text(path));
    }
}

fn directory(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

/// A path of the file as an absolute path.
fn absolute(directory: &Path, path: &str) -> PathBuf {
    let joined = directory.join(path);
    std::path::absolute(&joined).unwrap_or(joined)
}

fn json(value: &YamlValue) -> serde_json::Value {
    use serde_json::Value;
    match value {
        YamlValue::Null => Value::Null,
        YamlValue::Bool(value) => (*value).into(),
        YamlValue::Integer(value) => i64::try_from(*value)
            .map(Value::from)
            .or_else(|_| u64::try_from(*value).map(Value::from))
            .unwrap_or(Value::Null),
        YamlValue::Float(value) => (*value).into(),
        YamlValue::Text(text) => text.as_str().into(),
        YamlValue::List(items) => items.iter().map(|item| json(&item.value)).collect(),
        YamlValue::Map(entries) => entries
            .iter()
            .map(|entry| (entry.key.clone(), json(&entry.node.value)))
            .collect(),
    }
}
