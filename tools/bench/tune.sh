#!/usr/bin/env bash
# Whether `lipsync-server tune` is right: it measures the demo avatars on this machine, and a load test against a server
# with the settings that it proposes finds the capacity again. Release builds, which it does not make; about six minutes.
#
#   tools/bench/tune.sh            both halves
#   tools/bench/tune.sh measure    tune alone, which writes OUT/tuned.yaml (OUT: out/tune)
#   tools/bench/tune.sh confirm    the load test alone
#
# It fails if the two figures are more than a tenth apart. MINUTES (6) are what tune may take.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${OUT:-$root/out/tune}
bin=${CARGO_TARGET_DIR:-$root/target}/release
mkdir -p "$out"

# shellcheck source=server.sh
source "$root/tools/bench/server.sh"

measure() {
  # Without packs, frames are read from files and coded anew, which is not how anybody serves them.
  "$bin/lipsync-server" --config "$root/config.yaml" bake > "$out/bake.txt"
  rm -f "$out/tuned.yaml"
  "$bin/lipsync-server" --config "$root/config.yaml" tune --minutes "${MINUTES:-6}" --write "$out/tuned.yaml"
}

# The proposed settings, the models, and nothing else.
start_server() {
  { cat "$out/tuned.yaml"; printf 'models_root: %s/assets/avatars\n' "$root"
    sed -n '/^models:/,/^# Who may call/{/^# Who/!p}' "$root/config.yaml"; } > "$out/config.yaml"
  LIPSYNC_SERVER__PORT=127.0.0.1:0 LIPSYNC_SERVER__PEER_SHARE_PERCENT=100 LIPSYNC_OPERATIONS__ENABLED=false \
    serve "$bin/lipsync-server" --config "$out/config.yaml"
}

confirm() {
  local line proposed found
  line=$(sed -n 's/^# *lipsync-load-test //p' "$out/tuned.yaml")
  proposed=$(sed -n 's/^# Capacity: \([0-9]*\) .*/\1/p' "$out/tuned.yaml")
  [ -n "$line" ] && [ -n "$proposed" ] || { echo "there is no capacity in $out/tuned.yaml" >&2; exit 1; }
  start_server
  # shellcheck disable=SC2086 # It is a command line.
  "$bin/lipsync-load-test" --addr "$address" --quiet --json "$out/confirmed.json" $line --slo-p95-ms 200 | tee "$out/confirmed.txt"
  stop_server
  found=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["max_users"])' "$out/confirmed.json")
  python3 - "$proposed" "$found" <<'END'
import sys

proposed, found = map(int, sys.argv[1:])
apart = abs(proposed - found) / found
print(f"tune: {proposed} conversations, load test: {found}: {100 * apart:.0f} % apart")
sys.exit(apart > 0.1)
END
}

case ${1:-all} in
  measure) measure ;;
  confirm) confirm ;;
  all) measure; confirm ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
