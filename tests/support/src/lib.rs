//! Shared code of the tests, the benchmarks and the end-to-end suite: a proxy in front of a model
//! control plane, one HTTP client, raw sockets, scripted peers, the captured answers and the
//! executable.
//!
//! A failure in this crate fails the test, so its functions return no errors that a test would only
//! unwrap. Only `rig` uses the proxy's library.

#![expect(
    missing_docs,
    reason = "names and module comments are enough in test code"
)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure here fails the test"
)]

pub mod admin;
pub mod captured;
pub mod client;
pub mod collector;
pub mod executable;
pub mod frames;
pub mod logs;
pub mod peers;
pub mod posted;
pub mod raw;
pub mod rig;
pub mod streaming;
pub mod wait;

pub use captured::{assert_relayed, captured, conflict, samples};
pub use client::{
    BOTH, Client, PAIRS, Protocol, pod, tls_over, tls_stream, tls_stream_as, try_tls_stream,
};
pub use model_control_plane::client::Answer;
pub use posted::Posted;
pub use raw::Raw;
pub use rig::{
    Rig, one, plane, proxy_in_front_of, proxy_to, rig, sample, sample_of, servers_up, speaking,
};
pub use wait::{eventually, soon};

/// The namespace of most tests.
pub const NAMESPACE: &str = "team";
