//! Checks tables in unit tests: checks all rows, and names all that fail.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Checks every row, and then fails with all that failed.
pub(crate) fn every<T: Debug>(rows: impl IntoIterator<Item = T>, mut check: impl FnMut(T)) {
    let (mut checked, mut failed) = (0, Vec::new());
    for row in rows {
        checked += 1;
        let name = format!("{:.200}", format!("{row:?}"));
        if catch_unwind(AssertUnwindSafe(|| check(row))).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "these rows failed: {failed:#?}");
    assert!(checked > 0, "there is no row to check");
}

#[cfg(test)]
mod tests {
    use super::every;

    #[test]
    #[should_panic(expected = "these rows failed: [\n    \"2\",\n    \"3\",\n]")]
    fn all_rows_that_fail_are_named() {
        every([1, 2, 3], |row| assert!(row == 1));
    }

    #[test]
    #[should_panic(expected = "there is no row to check")]
    fn a_table_without_rows_fails() {
        every(Vec::<u8>::new(), |_| {});
    }
}
