#!/usr/bin/env bash
# Checks the status page of a proxy under load in a real browser: accessibility, the console, live
# updates, and the page without scripts (tests/page/check.mjs). It needs chromium, node and npm. If
# one is missing, the check is skipped with a message. With CI=true it fails.
#
#   tests/page.sh [FOLDER]    writes screenshots to FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in node npm "${CHROMIUM:=/usr/bin/chromium}"; do
  if ! command -v "$tool" >/dev/null; then
    echo "page: skipped, because $tool is missing (Debian: chromium, nodejs, npm)"
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
# Screenshots need some data, so wait as long as a person would look at the page.
[ -z "$folder" ] || sleep "${LOOK:-90}"

timeout 300 node tests/page/check.mjs "$url" $folder
