#!/usr/bin/env bash
# `cargo xtask control-plane VERB…`, from anywhere. `help` has the verbs.
set -euo pipefail
manifest=$(dirname "${BASH_SOURCE[0]}")/../../Cargo.toml
exec cargo run --quiet --locked --manifest-path "$manifest" --package xtask -- control-plane "$@"
