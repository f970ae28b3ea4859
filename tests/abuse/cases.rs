//! The abuse cases, one function each. A case sets up its peers, acts, and states its requirements
//! in addition to those of the neighbours.

mod bodies;
mod connections;
mod creates;
mod frames;
mod limits;
mod memory;
mod readers;

use crate::{Case, faults};

pub use creates::quota_conflict;

/// All cases of the lab.
pub fn all() -> Vec<Case> {
    [abuses(), faults::cases(), faults::resolving::cases()]
        .into_iter()
        .flatten()
        .collect()
}

/// The cases that appear in the memory table.
pub fn abuses() -> Vec<Case> {
    let modules = [
        readers::cases(),
        frames::cases(),
        bodies::cases(),
        connections::cases(),
        creates::cases(),
        memory::cases(),
        limits::cases(),
    ];
    modules.into_iter().flatten().collect()
}
