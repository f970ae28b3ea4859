//! Checks the relative links in the guides.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::report::Report;
use super::{files, read};

pub(super) fn check(report: &mut Report) -> Result<()> {
    let mut guides: Vec<PathBuf> = [
        "README.md",
        "CONTRIBUTING.md",
        "ARCHITECTURE.md",
        "deploy/README.md",
    ]
    .map(PathBuf::from)
    .into();
    guides.extend(files("docs", "md")?);
    for guide in guides {
        report.check(format!("links of {}", guide.display()), || {
            links_lead_somewhere(&guide)
        });
    }
    Ok(())
}

/// Every relative link refers to an existing file, and its fragment to a heading.
fn links_lead_somewhere(guide: &Path) -> Result<()> {
    for link in links(&read(guide)?) {
        let (path, fragment) = link.split_once('#').unwrap_or((&link, ""));
        let target = match path {
            "" => guide.to_owned(),
            path => guide.parent().unwrap_or(Path::new("")).join(path),
        };
        ensure!(target.exists(), "{link}: no such file");
        if !fragment.is_empty() {
            ensure!(
                anchors(&read(&target)?).any(|anchor| anchor == fragment),
                "{link}: no such heading"
            );
        }
    }
    Ok(())
}

/// The link targets that are not URLs.
fn links(text: &str) -> Vec<String> {
    let of_line = |line: &str| -> Vec<String> {
        let targets = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'));
        targets
            .map(|(target, _)| target)
            .filter(|target| !target.split('#').next().unwrap_or_default().contains(':'))
            .map(str::to_owned)
            .collect()
    };
    text.lines().flat_map(of_line).collect()
}

/// The fragments of a file's headings, as GitHub generates them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let headings = text.lines().filter_map(|line| {
        line.trim_start_matches('#')
            .strip_prefix(' ')
            .filter(|_| line.starts_with('#'))
    });
    headings.map(|heading| {
        let kept = heading
            .chars()
            .map(|char| char.to_ascii_lowercase())
            .filter(|char| matches!(char, 'a'..='z' | '0'..='9' | ' ' | '_' | '-'));
        kept.map(|char| if char == ' ' { '-' } else { char })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn links_are_relative_ones_with_and_without_fragments() {
        let text = "[a](b.md) and [c](#d), ![e](f.png) [g](https://h#i)\n[j](k.md#l:m) (n)\n";
        assert_eq!(links(text), ["b.md", "#d", "f.png", "k.md#l:m"]);
    }

    #[test]
    fn fragments_match_those_of_github() {
        let text = "# One `two`, Three\ntext\n## 5,000 watches_x\n#no\n";
        assert_eq!(
            anchors(text).collect::<Vec<_>>(),
            ["one-two-three", "5000-watches_x"]
        );
    }

    #[test]
    fn a_dead_link_and_a_dead_fragment_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let guide = folder.path().join("guide.md");
        let check = |text: &str| {
            fs::write(&guide, text).unwrap();
            links_lead_somewhere(&guide)
        };
        assert!(check("# A\n[a](guide.md#a) [b](#a)").is_ok());
        assert!(
            check("# A\n[a](other.md)")
                .unwrap_err()
                .to_string()
                .contains("no such file")
        );
        assert!(
            check("# A\n[a](#b)")
                .unwrap_err()
                .to_string()
                .contains("no such heading")
        );
    }
}
