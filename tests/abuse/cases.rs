//! Each abuse, one function each: it sets up its peers, acts, and says what must be so beside its neighbours.

mod bodies;
mod connections;
mod creates;
mod frames;
mod limits;
mod memory;
mod readers;

use crate::{Case, faults};

pub use creates::quota_conflict;

pub fn all() -> Vec<Case> {
    [
        readers::cases(),
        frames::cases(),
        bodies::cases(),
        connections::cases(),
        creates::cases(),
        limits::cases(),
        memory::cases(),
        faults::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
