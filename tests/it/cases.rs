//! `cases!` makes a test of each case of a table, so that a failure names its case and hides none
//! of the others.
//!
//! ```ignore
//! cases!(the_answer_is_relayed, pairs, [created(201), conflict(409)]);
//! async fn the_answer_is_relayed(down: Protocol, up: Protocol, code: u16) { .. }
//! ```
//!
//! This makes eight tests: `the_answer_is_relayed::http1_to_http1::created` and so on. The function
//! takes the values of all dimensions in their order. A dimension is a list of `name(values)`, or
//! one of the words `protocols`, `pairs` (of client and upstream) and `encodings`.

use std::fmt::Debug;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

macro_rules! cases {
    (@each $test:ident $args:tt protocols $rest:tt) => {
        cases!(@each $test $args [
            http1(Protocol::Http1),
            http2(Protocol::Http2),
        ] $rest);
    };
    (@each $test:ident $args:tt pairs $rest:tt) => {
        cases!(@each $test $args [
            http1_to_http1(Protocol::Http1, Protocol::Http1),
            http1_to_http2(Protocol::Http1, Protocol::Http2),
            http2_to_http1(Protocol::Http2, Protocol::Http1),
            http2_to_http2(Protocol::Http2, Protocol::Http2),
        ] $rest);
    };
    (@each $test:ident $args:tt encodings $rest:tt) => {
        cases!(@each $test $args [
            json(Encoding::Json),
            protobuf(Encoding::Protobuf),
            yaml(Encoding::Yaml),
        ] $rest);
    };
    (@each $test:ident $args:tt [$($name:ident $values:tt),+ $(,)?] $rest:tt) => {
        $(cases!(@case $test $name $args $values $rest);)+
    };
    (@case $test:ident $name:ident ($($arg:expr),*) ($($value:expr),* $(,)?) ()) => {
        #[tokio::test]
        async fn $name() {
            $test($($arg,)* $($value),*).await;
        }
    };
    (@case $test:ident $name:ident ($($arg:expr),*) ($($value:expr),* $(,)?)
        ($next:tt $(, $rest:tt)*)
    ) => {
        mod $name {
            use super::*;

            cases!(@each $test ($($arg,)* $($value),*) $next ($($rest),*));
        }
    };
    ($test:ident, $first:tt $(, $rest:tt)* $(,)?) => {
        mod $test {
            use super::*;

            cases!(@each $test () $first ($($rest),*));
        }
    };
}

/// Checks every row, and then fails with all failures. For tables whose rows share an expensive
/// setup.
pub async fn every<T: Debug>(rows: impl IntoIterator<Item = T>, mut check: impl AsyncFnMut(T)) {
    let (mut checked, mut failed) = (0, Vec::new());
    for row in rows {
        checked += 1;
        let name = format!("{:.200}", format!("{row:?}"));
        let mut checking = pin!(check(row));
        let passed =
            poll_fn(
                |cx| match catch_unwind(AssertUnwindSafe(|| checking.as_mut().poll(cx))) {
                    Ok(polled) => polled.map(|()| true),
                    Err(_) => Poll::Ready(false),
                },
            );
        if !passed.await {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "these rows failed: {failed:#?}");
    assert!(checked > 0, "there is no row to check");
}

#[tokio::test]
#[should_panic(expected = "these rows failed: [\n    \"2\",\n    \"3\",\n]")]
async fn all_rows_that_fail_are_named() {
    every([1, 2, 3], async |row| assert!(row == 1)).await;
}

#[tokio::test]
#[should_panic(expected = "there is no row to check")]
async fn a_table_without_rows_fails() {
    every(Vec::<u8>::new(), async |_| {}).await;
}
