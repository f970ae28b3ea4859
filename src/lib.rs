//! kube-retry-proxy: a reverse proxy between a Kubernetes controller and kube-apiserver.
//!
//! The proxy streams every request unchanged, except creates that a ResourceQuota can refuse by
//! accident. It buffers those and sends them again until the apiserver has really decided.
//!
//! The modules are listed in the order in which a request meets them. A module imports only modules
//! below it in this list; `tests/it/architecture.rs` checks that.

// The commands.
pub mod cli;
#[cfg(feature = "demo")]
pub mod demo;

// Starts and stops the rest.
pub mod app;

// Shows operators the state of the proxy.
pub mod admin;
pub mod events;

// The path of a request.
pub mod listener;
pub mod proxy;
pub mod create;
pub mod upgrade;
pub mod forward;
pub mod error;
pub mod quotas;
pub mod upstream;

// The state that requests use.
pub mod budget;
pub mod ratelimit;
pub mod keyed;
pub mod identity;
pub mod decisions;
pub mod trace;
pub mod body;
pub mod drain;
pub mod connections;
pub mod tls;
pub mod kubeconfig;
pub mod metrics;

// Pure: values in, values out, no IO.
pub mod snapshot;
pub mod route;
pub mod headers;
pub mod verdict;
pub mod backoff;
pub mod proof;
pub mod quantity;
pub mod status;
pub mod telemetry;
pub mod config;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod rows;
