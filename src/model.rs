//! m
pub mod amounts;
pub mod dice;
pub mod informer;
pub mod machine;
pub mod object;
pub mod quota;
pub mod store;
pub mod tasks;
