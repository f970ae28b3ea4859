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
//! one of the words `protocols`, `pairs` (of client and upstream) and `encodings`. `rows!` does
//! the same for functions that are not async.

macro_rules! cases {
    (@each $kind:ident $test:ident $args:tt protocols $rest:tt) => {
        cases!(@each $kind $test $args [
            http1(Protocol::Http1),
            http2(Protocol::Http2),
        ] $rest);
    };
    (@each $kind:ident $test:ident $args:tt pairs $rest:tt) => {
        cases!(@each $kind $test $args [
            http1_to_http1(Protocol::Http1, Protocol::Http1),
            http1_to_http2(Protocol::Http1, Protocol::Http2),
            http2_to_http1(Protocol::Http2, Protocol::Http1),
            http2_to_http2(Protocol::Http2, Protocol::Http2),
        ] $rest);
    };
    (@each $kind:ident $test:ident $args:tt encodings $rest:tt) => {
        cases!(@each $kind $test $args [
            json(Encoding::Json),
            protobuf(Encoding::Protobuf),
            yaml(Encoding::Yaml),
        ] $rest);
    };
    (@each $kind:ident $test:ident $args:tt [$($name:ident $values:tt),+ $(,)?] $rest:tt) => {
        $(cases!(@case $kind $test $name $args $values $rest);)+
    };
    (@case awaited $test:ident $name:ident ($($arg:expr),*) ($($value:expr),* $(,)?) ()) => {
        #[tokio::test]
        async fn $name() {
            $test($($arg,)* $($value),*).await;
        }
    };
    (@case plain $test:ident $name:ident ($($arg:expr),*) ($($value:expr),* $(,)?) ()) => {
        #[test]
        fn $name() {
            $test($($arg,)* $($value),*);
        }
    };
    (@case $kind:ident $test:ident $name:ident ($($arg:expr),*) ($($value:expr),* $(,)?)
        ($next:tt $(, $rest:tt)*)
    ) => {
        mod $name {
            use super::*;

            cases!(@each $kind $test ($($arg,)* $($value),*) $next ($($rest),*));
        }
    };
    ($test:ident, $first:tt $(, $rest:tt)* $(,)?) => {
        mod $test {
            use super::*;

            cases!(@each awaited $test () $first ($($rest),*));
        }
    };
}

macro_rules! rows {
    ($test:ident, $first:tt $(, $rest:tt)* $(,)?) => {
        mod $test {
            use super::*;

            cases!(@each plain $test () $first ($($rest),*));
        }
    };
}
