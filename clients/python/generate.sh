#!/usr/bin/env bash
# Regenerates src/lipsync_client/v1 from the proto files.
#
# `generate.sh --check` only says whether what is committed is what the proto files give; `--install` makes the environment
# and nothing else.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=${VENV:-$here/.venv-generate}
out=$here/src/lipsync_client/v1

if [ ! -x "$venv/bin/protoc-gen-mypy" ]; then
  python3 -m venv "$venv"
  # The versions stand in pyproject.toml.
  versions=$(sed -n 's/^generate = \[\(.*\)\]$/\1/p' "$here/pyproject.toml" | tr -d '",')
  # shellcheck disable=SC2086 # One word a package.
  "$venv/bin/pip" install -q $versions
fi
[ "${1:-}" != --install ] || exit 0

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
PATH="$venv/bin:$PATH" "$venv/bin/python" -m grpc_tools.protoc \
  -I "$here/../../proto" --python_out="$made" --grpc_python_out="$made" \
  --mypy_out=quiet:"$made" --mypy_grpc_out=quiet:"$made" lipsync/v1/lipsync.proto
PATH="$venv/bin:$PATH" "$venv/bin/python" -m grpc_tools.protoc \
  -I "$here/proto" --python_out="$made/lipsync/v1" --mypy_out=quiet:"$made/lipsync/v1" details.proto
# The stubs lie inside this package, not at the top.
sed -i 's/^from lipsync\.v1 import/from lipsync_client.v1 import/' "$made"/lipsync/v1/*_grpc.py*

if [ "${1:-}" = --check ]; then
  for file in "$made"/lipsync/v1/*; do
    cmp "$file" "$out/$(basename "$file")" || {
      echo "run clients/python/generate.sh: the proto files have changed" >&2
      exit 1
    }
  done
else
  cp "$made"/lipsync/v1/* "$out/"
fi
