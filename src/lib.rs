//! kube-retry-proxy: a reverse proxy between a Kubernetes controller and kube-apiserver.
//!
//! Everything streams through untouched, except creates that a ResourceQuota can refuse by accident: those are buffered and replayed
//! until the apiserver has really decided. The modules stand in the order in which a request meets them; imports only point down
//! (ARCHITECTURE.md has the table, `tests/it/architecture.rs` checks it).

pub mod cli;
pub mod demo;
pub mod model;

pub mod app;
pub mod admin;
pub mod listener;
pub mod proxy;
pub mod create;
pub mod forward;
pub mod upgrade;
pub mod upstream;
pub mod error;
pub mod budget;
pub mod ratelimit;
pub mod keyed;
pub mod decisions;
pub mod drain;
pub mod body;
pub mod tls;
pub mod kubeconfig;
pub mod telemetry;
pub mod metrics;
pub mod route;
pub mod headers;
pub mod verdict;
pub mod backoff;
pub mod status;
pub mod config;
