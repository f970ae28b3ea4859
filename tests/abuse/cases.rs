//! Each abuse, one function each: it sets up its peers, acts, and says what must be so beside its
//! neighbours.

mod bodies;
mod connections;
mod creates;
mod frames;
mod limits;
mod memory;
mod readers;

use crate::{Case, faults};

pub use creates::quota_conflict;

/// All that the lab can do.
pub fn all() -> Vec<Case> {
    [abuses(), faults::cases()].into_iter().flatten().collect()
}

/// Those with a place in the memory table.
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
