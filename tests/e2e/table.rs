//! Tables of figures, printed and stored in `target/tmp/e2e/` for comparison. Results of an older
//! version of Kubernetes are in a folder of their own, such as `target/tmp/e2e-1.34/`.

use std::fmt::Display;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder for what the suite keeps.
pub fn results() -> PathBuf {
    let name = match std::env::var("CONTROLPLANE_VERSION") {
        Ok(version) if !version.is_empty() => format!("e2e-{version}"),
        _ => "e2e".to_owned(),
    };
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A Markdown table under construction.
pub struct Table {
    name: &'static str,
    text: String,
}

impl Table {
    pub fn new(name: &'static str, columns: &[&str]) -> Self {
        Self {
            name,
            text: format!(
                "| {} |\n|{}\n",
                columns.join(" | "),
                "---|".repeat(columns.len())
            ),
        }
    }

    pub fn row(&mut self, cells: &[&dyn Display]) {
        for cell in cells {
            write!(self.text, "| {cell} ").unwrap();
        }
        self.text.push_str("|\n");
    }

    pub fn print(self) {
        let folder = results();
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{}.md", self.name)), &self.text).unwrap();
        println!("\n{}\n\n{}", self.name, self.text);
    }
}
