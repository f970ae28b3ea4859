//! Checks tables in unit tests: checks all rows, and names all that fail.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Checks every row, and then fails with all that failed.
pub(crate) fn every<T: Debug>(rows: impl IntoIterator<Item = T>, mut check: impl FnMut(T)) {
    let mut failed = Vec::new();
    for row in rows {
        let name = format!("{:.200}", format!("{row:?}"));
        if catch_unwind(AssertUnwindSafe(|| check(row))).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "these rows failed: {failed:#?}");
}
