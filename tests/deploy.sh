#!/usr/bin/env bash
# `cargo xtask deploy-check [check|cluster|update]`, from anywhere.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo xtask deploy-check "$@"
