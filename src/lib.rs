//! kube-retry-proxy: a reverse proxy between a Kubernetes controller and kube-apiserver.
//!
//! Everything streams through untouched, except creates that a ResourceQuota can refuse by
//! accident: those are buffered and replayed until the apiserver has really decided. The modules
//! stand in the order in which a request meets them; imports only point down (`tests/it/
//! architecture.rs` checks it against this list).

// What a person calls.
pub mod cli;
#[cfg(feature = "demo")]
pub mod demo;

// Starts and stops the rest.
pub mod app;

// Beside the path: what operators are told.
pub mod admin;
pub mod events;

// The path of a request.
pub mod listener;
pub mod proxy;
pub mod create;
pub mod upgrade;
pub mod forward;
pub mod error;
pub mod upstream;

// What the path holds on to.
pub mod budget;
pub mod ratelimit;
pub mod keyed;
pub mod decisions;
pub mod trace;
pub mod body;
pub mod drain;
pub mod connections;
pub mod tls;
pub mod kubeconfig;
pub mod metrics;

// Pure: values in, values out.
pub mod snapshot;
pub mod route;
pub mod headers;
pub mod verdict;
pub mod backoff;
pub mod status;
pub mod telemetry;
pub mod config;

#[cfg(test)]
mod rows;
