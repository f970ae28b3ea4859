//! Tables of figures, printed and stored in `target/tmp/e2e/` for comparison.

use std::fmt::Display;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

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
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{}.md", self.name)), &self.text).unwrap();
        println!("\n{}\n\n{}", self.name, self.text);
    }
}
