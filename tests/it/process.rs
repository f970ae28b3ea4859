//! The command `serve` from an operator's point of view.

mod failures;
mod settings;
