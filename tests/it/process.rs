//! `serve` as an operator meets it.

mod failures;
mod settings;
