//! Compares the instructions of a request with those that the repository has recorded, so that a
//! change that makes the proxy slower is seen.
//!
//! What is compared is the ratio to the minimal proxy of hyper, which was counted in the same run. A
//! new compiler, library or processor changes both alike.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::report::Table;

pub(crate) const OURS: &str = "kube-retry-proxy";
pub(crate) const FLOOR: &str = "bare hyper, up h2";

/// How much larger a ratio may become, in percent. Two runs differ by 1.
const TOLERANCE: f64 = 4.0;

const HEADER: &str = "request,kube-retry-proxy,bare hyper";

/// Writes what was counted.
pub(crate) fn record(counted: &Table, path: &Path) -> Result<()> {
    let mut lines = format!("{HEADER}\n");
    for (column, ours, floor) in rows(counted)? {
        let _ = writeln!(lines, "{column},{ours:.1},{floor:.1}");
    }
    fs::write(path, lines).with_context(|| format!("cannot write {}", path.display()))
}

/// Says how what was counted compares with what is recorded.
///
/// # Errors
/// A request takes more than is recorded.
pub(crate) fn compare(counted: &Table, path: &Path) -> Result<String> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut said = String::new();
    let mut slower = false;
    for (column, ours, floor) in rows(counted)? {
        let (was, floor_was) = recorded(&text, &column)
            .with_context(|| format!("{}: expected a line for {column}", path.display()))?;
        let change = 100.0 * ((ours / floor) / (was / floor_was) - 1.0);
        slower |= change > TOLERANCE;
        let verdict = match change {
            change if change > TOLERANCE => "SLOWER",
            change if change < -TOLERANCE => "faster: record it",
            _ => "as recorded",
        };
        let _ = writeln!(
            said,
            "{column}: {:.2} times bare hyper, recorded {:.2} ({change:+.1} %): {verdict}",
            ours / floor,
            was / floor_was,
        );
    }
    ensure!(
        !slower,
        "a request takes over {TOLERANCE} % more instructions than {} says:\n{said}",
        path.display()
    );
    Ok(said)
}

/// The name of each request, and the instructions of the proxy and of the floor for it.
fn rows(counted: &Table) -> Result<Vec<(String, f64, f64)>> {
    let at = |name: &str| {
        let position = counted.contestants().iter().position(|each| each == name);
        position.with_context(|| format!("{name} was not counted"))
    };
    let (ours, floor) = (at(OURS)?, at(FLOOR)?);
    let columns = counted.columns().iter().enumerate();
    columns
        .map(|(column, name)| {
            let median = |contestant| counted.median(contestant, column).context("a count");
            Ok((name.clone(), median(ours)?, median(floor)?))
        })
        .collect()
}

fn recorded(text: &str, request: &str) -> Option<(f64, f64)> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(request)?.strip_prefix(','))?;
    let (ours, floor) = line.split_once(',')?;
    Some((ours.parse().ok()?, floor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(ours: f64, floor: f64) -> Table {
        let mut table = Table::new("Instructions", "thousands", true);
        table.add(OURS, "GET h1", ours);
        table.add(FLOOR, "GET h1", floor);
        table
    }

    #[test]
    fn only_what_grows_beside_the_floor_is_slower() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("recorded");
        record(&counted(150.0, 100.0), &path).unwrap();
        assert!(
            compare(&counted(155.0, 100.0), &path)
                .unwrap()
                .contains("as recorded")
        );
        assert!(
            compare(&counted(300.0, 200.0), &path)
                .unwrap()
                .contains("(+0.0 %)")
        );
        assert!(
            compare(&counted(130.0, 100.0), &path)
                .unwrap()
                .contains("faster")
        );
        let slower = compare(&counted(160.0, 100.0), &path)
            .unwrap_err()
            .to_string();
        assert!(
            slower.contains("GET h1: 1.60 times bare hyper, recorded 1.50 (+6.7 %): SLOWER"),
            "{slower}"
        );
        fs::write(&path, "POST h1,1,1\n").unwrap();
        let missing = compare(&counted(1.0, 1.0), &path).unwrap_err().to_string();
        assert!(missing.contains("expected a line for GET h1"), "{missing}");
    }
}
