#!/usr/bin/env bash
# The status page in a real browser, over a proxy under load: accessibility, console, live updates, no scripts (tests/page/check.mjs).
# Needs chromium, node and npm. Where one is missing it says so and is left out; with CI=true that fails.
#
#   tests/page.sh [FOLDER]    leaves screenshots in FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in node npm "${CHROMIUM:=/usr/bin/chromium}"; do
  if ! command -v "$tool" >/dev/null; then
    echo "page: left out, because $tool is missing (Debian: chromium, nodejs, npm)"
    [ "${CI:-}" != true ]
    exit
  fi
done
export CHROMIUM
folder=${1:+$(realpath "$1")}

cargo build --locked
npm --prefix tests/page ci --ignore-scripts --no-audit --no-fund

printed=$(mktemp)
target/debug/kube-retry-proxy demo --serve >"$printed" &
demo=$!
trap 'kill -INT $demo 2>/dev/null; wait $demo || true; rm -f "$printed"' EXIT
until url=$(sed -n 's/^Status page: //p' "$printed"); [ -n "$url" ]; do
  kill -0 $demo
  sleep 0.2
done
# Something to see: as long as a person would look. Only a screenshot needs it.
[ -z "$folder" ] || sleep "${LOOK:-90}"

timeout 300 node tests/page/check.mjs "$url" $folder
