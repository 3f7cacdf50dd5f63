#!/usr/bin/env bash
# Measures live conversations with the demo avatar: server and clients of release builds on this machine, on
# a free port, so that nothing else needs to be configured or stopped. Linux, at least two cores.
#
#   tools/bench/live.sh pace     one session at 25 frames/s, one worker, the server on one core: even
#                                frames and a quick first one, with pauses and without
#   tools/bench/live.sh clear    eight sessions that keep the server busy and are interrupted
#   tools/bench/live.sh drift    twenty minutes without a pause (DURATION=2m for a shorter run)
#   tools/bench/live.sh          all of them
#
# Reports go to stdout, everything else to the folder OUT (default: out/live) as JSON.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${OUT:-$root/out/live}
bin=${CARGO_TARGET_DIR:-$root/target}/release
mkdir -p "$out"

# shellcheck source=server.sh
source "$root/tools/bench/server.sh"

# start_server CORES WORKERS: sets `address`.
start_server() {
  LIPSYNC_SERVER__PORT=127.0.0.1:0 LIPSYNC_SERVER__WORKER_COUNT=$2 LIPSYNC_OPERATIONS__ENABLED=false \
    serve taskset -c "$1" "$bin/lipsync-server" --config "$root/config.yaml"
}

# One session whose every frame must come, and be right.
live="--pacing realtime --max-error-rate 0"

# measure NAME CORES ARGUMENTS...
measure() {
  local name=$1 cores=$2
  shift 2
  echo "== $name: $*"
  taskset -c "$cores" "$bin/lipsync-load-test" --addr "$address" --quiet --stream --batch 1 \
    --json "$out/$name.json" "$@" || echo "FAILED: $name"
  echo
}

# shellcheck disable=SC2086 # $live is several words.
pace() {
  start_server 0 1
  measure pace-conversation 1 $live --users 1 --profile conversational --duration "${DURATION:-90s}"
  measure pace-monologue 1 $live --users 1 --profile monologue --duration "${DURATION:-60s}"
  measure pace-idle 1 $live --users 1 --profile conversational --idle-frames --duration "${DURATION:-60s}"
  stop_server
}

clear_latency() {
  start_server 0-1 2
  measure clear-live 0-1 --pacing realtime --max-error-rate 1 --users 8 --profile monologue \
    --interrupt-every 1s --duration "${DURATION:-60s}"
  # As fast as they go: the queue is never empty.
  measure clear-full 0-1 --pacing asap --max-error-rate 1 --users 8 --profile saturate \
    --interrupt-every 300ms --duration "${DURATION:-60s}"
  stop_server
}

# shellcheck disable=SC2086
drift() {
  start_server 0 1
  measure drift 1 $live --users 1 --profile monologue --duration "${DURATION:-20m}"
  stop_server
}

cargo build --release --quiet --manifest-path "$root/Cargo.toml" --bin lipsync-server --bin lipsync-load-test
case ${1:-all} in
  pace) pace ;;
  clear) clear_latency ;;
  drift) drift ;;
  all) pace; clear_latency; drift ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
