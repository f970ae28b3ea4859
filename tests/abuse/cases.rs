//! Each abuse, one function each: it sets up its peers, acts, and says what must be so beside its neighbours.

mod bodies;
mod connections;
mod creates;
mod readers;

use crate::Case;

pub fn all() -> Vec<Case> {
    [readers::cases(), bodies::cases(), connections::cases(), creates::cases()].into_iter().flatten().collect()
}
