//! Searches in rendered manifests and guides.

use anyhow::{Result, bail, ensure};

/// The text under a key of a ConfigMap, without its indentation.
pub(super) fn under(manifest: &str, key: &str) -> String {
    let start = format!("  {key}: |");
    let mut text = String::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line == start {
            inside = true;
        } else if inside && (line.is_empty() || line.starts_with("    ")) {
            text.push_str(line.get(4..).unwrap_or_default());
            text.push('\n');
        } else {
            inside = false;
        }
    }
    text
}

pub(super) fn has_line(text: &str, line: &str) -> Result<()> {
    ensure!(text.lines().any(|found| found == line), "no line `{line}`");
    Ok(())
}

pub(super) fn contains(text: &str, part: &str) -> Result<()> {
    ensure!(text.contains(part), "no `{part}` in:\n{text}");
    Ok(())
}

pub(super) fn has_no_line(text: &str, unwanted: impl Fn(&str) -> bool) -> Result<()> {
    match text.lines().find(|line| unwanted(line)) {
        Some(line) => bail!("unexpected line `{line}`"),
        None => Ok(()),
    }
}

/// Fails with the first line that differs.
pub(super) fn same(expected: &str, found: &str) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let differing = expected
        .lines()
        .zip(found.lines())
        .enumerate()
        .find(|(_, (a, b))| a != b);
    match differing {
        Some((index, (a, b))) => bail!("line {} is\n{b}\nand should be\n{a}", index + 1),
        None => bail!(
            "{} lines instead of {}",
            found.lines().count(),
            expected.lines().count()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_under_a_key_ends_at_the_next_key() {
        let manifest =
            "data:\n  a: |\n    one\n      two\n\n    three\n  b: |\n    four\n---\n    x\n";
        assert_eq!(under(manifest, "a"), "one\n  two\n\nthree\n");
        assert_eq!(under(manifest, "b"), "four\n");
        assert_eq!(under(manifest, "c"), "");
    }

    #[test]
    fn an_error_has_the_number_of_the_first_different_line() {
        assert!(same("a\nb\n", "a\nb\n").is_ok());
        assert!(
            same("a\nb\n", "a\nc\n")
                .unwrap_err()
                .to_string()
                .starts_with("line 2 is")
        );
        assert!(same("a\nb\n", "a\n").is_err());
        assert!(same("a\n", "a").is_err());
    }

    #[test]
    fn lines_and_parts_are_found() {
        let text = "  kind: Role\nreplicas: 3\n";
        assert!(has_line(text, "replicas: 3").is_ok());
        assert!(has_line(text, "kind: Role").is_err());
        assert!(contains(text, "kind").is_ok());
        assert!(contains(text, "none").is_err());
        assert!(has_no_line(text, |line| line.starts_with("replicas")).is_err());
    }
}
