#!/usr/bin/env bash
# Checks everything that a change must pass: format, lints, tests, documentation and dependencies.
# It stops at the first failure.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; "$@"; }

step cargo fmt --all --check
step cargo clippy --locked --workspace --all-targets -- -D warnings
step cargo clippy --locked --no-default-features -- -D warnings
# `test = false` keeps e2e out of a plain `cargo test`, and also out of --all-targets.
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
# A workspace of its own, which nothing above looks at: its lock file must hold what the proxy's does.
step cargo tree --locked --manifest-path fuzz/Cargo.toml --depth 0
# This includes the tests of xtask, and with them those of what a release contains.
step cargo test --locked --workspace
step bash tests/page.sh
step cargo xtask deploy-check
