//! cli

pub mod explain;
