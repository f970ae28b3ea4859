#!/usr/bin/env bash
# Everything that a change must pass: format, lints, tests, documentation, dependencies.
# Stops at the first failure.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; "$@"; }

step cargo fmt --all --check
step cargo clippy --locked --workspace --all-targets -- -D warnings
# `test = false`, which keeps it out of a plain `cargo test`, keeps it out of all targets too.
step cargo clippy --locked --test e2e -- -D warnings
RUSTDOCFLAGS='-D warnings' step cargo doc --locked --workspace --no-deps --document-private-items
if cargo deny --version >/dev/null 2>&1; then
  step cargo deny --locked check bans licenses sources
elif [ "${CI:-}" = true ]; then
  echo 'cargo-deny is missing: cargo install --locked cargo-deny' >&2
  exit 1
else
  echo 'cargo-deny is not installed: dependencies are not checked (cargo install --locked cargo-deny)'
fi
# With the tests of the tasks, among them those of what a release is made of.
step cargo test --locked --workspace
step bash tests/page.sh
step cargo xtask deploy-check
