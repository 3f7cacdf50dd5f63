#!/usr/bin/env bash
# Judges the description of the operations port by openapi-spec-validator. Needs Python 3.9 or newer with pip.
#   tools/openapi-check/check.sh [FILE]
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "openapi-spec-validator==0.9.0"
"$folder/venv/bin/openapi-spec-validator" "${1:-$root/crates/server/src/operations/openapi.json}"
