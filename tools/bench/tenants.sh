#!/usr/bin/env bash
# Measures tenants with the demo avatars: server and clients of release builds on this machine, on a free port. It builds
# nothing: `cargo build --release --bins --workspace` first. Linux, at least two cores.
#
#   tools/bench/tenants.sh overhead [SERVER CONFIG]
#                                Mira, 4 users with batches of 8, in turns: without tenants, with keys and every quota,
#                                the same among 10,000 tenants, and an older server with its own configuration
#   tools/bench/tenants.sh table
#                                two tenants with different models, limits and keys: each alone, both together, one that
#                                floods, and urgent calls beside calls that are not
#
# For `overhead`, networks run in f32, which every build has. ROUNDS (5) and OUT (out/tenants) change the runs.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${OUT:-$root/out/tenants}
bin=${CARGO_TARGET_DIR:-$root/target}/release
mkdir -p "$out"
for program in lipsync-server lipsync-load-test; do
  [ -x "$bin/$program" ] || { echo "$bin/$program is not there: build it first" >&2; exit 1; }
done

# new_key NAME: a key in the variable NAME, and its SHA-256 in NAME_HASH.
new_key() {
  local key
  key=$("$bin/lipsync-server" keys new --tenant x | grep -o 'lsk_[0-9a-f]*')
  export "$1=$key"
  printf -v "$1_HASH" %s "$(printf %s "$key" | sha256sum | cut -d' ' -f1)"
}

# The configuration of the repository, and the tenants of stdin.
configuration() {
  sed 's|^models_root:.*|models_root: '"$root"'/assets/avatars|; s|^    path: tomo$|&\n    preload: true|' "$root/config.yaml"
  cat
}

# shellcheck source=server.sh
source "$root/tools/bench/server.sh"

# start_server CONFIG: sets `address`.
start_server() {
  LIPSYNC_SERVER__PORT=127.0.0.1:0 LIPSYNC_SERVER__WORKER_COUNT=2 LIPSYNC_OPERATIONS__ENABLED=false \
    serve "$bin/lipsync-server" --config "$1"
}

overhead() {
  new_key KEY
  configuration > "$out/overhead.yaml" <<END
tenants:
  bench:
    keys: {main: {sha256: $KEY_HASH}}
    models: [mira]
    weight: 3
    max_priority: high
    frames_per_second: 100000
    max_sessions: 100
    max_requests: 100
    max_waiting_mb: 400
    max_resident_models: 2
  other: {models: [tomo]}
  admin: {admin: true}
END
  { cat "$out/overhead.yaml"; python3 - <<'END'
import hashlib

for n in range(10_000):
    print(f"  t{n}:\n    frames_per_second: 100\n    keys:\n      k:\n        sha256:", hashlib.sha256(b"%d" % n).hexdigest())
END
  } > "$out/many.yaml"
  local older=()
  [ -z "${1:-}" ] || older=("older=$1,config=$2")
  LIPSYNC_ENGINE__PRECISION=f32 python3 "$root/tools/bench/two_servers.py" "without=$bin/lipsync-server" \
    "tenants=$bin/lipsync-server,config=$out/overhead.yaml" \
    "many=$bin/lipsync-server,config=$out/many.yaml" "${older[@]}" \
    --rounds "${ROUNDS:-5}" --duration 5 --wait 20 --busy -- \
    --model mira --users 4 --profile saturate --batch 8 --key @KEY
}

# load NAME ARGUMENTS...
load() {
  local name=$1
  shift
  echo "== $name: ${*//@/\$}"
  "$bin/lipsync-load-test" --addr "$address" --quiet --warm-up 2s --profile saturate --max-error-rate 1 \
    --json "$out/$name.json" "$@" | tail -n +2 || echo "FAILED: $name"
  echo
}

table() {
  new_key ACME
  new_key BETA
  new_key VIP
  configuration > "$out/table.yaml" <<END
tenants:
  acme:
    keys: {main: {sha256: $ACME_HASH}}
    models: [mira]
    weight: 3
    max_requests: 16
  beta:
    keys: {main: {sha256: $BETA_HASH}}
    models: [tomo]
    frames_per_second: 40
    max_requests: 4
  vip:
    keys: {main: {sha256: $VIP_HASH}}
    models: [mira]
    default_priority: high
END
  start_server "$out/table.yaml"
  load acme-alone --duration 10s --users 2 --tenant acme=@ACME:1:mira
  load beta-alone --duration 10s --users 2 --tenant beta=@BETA:1:tomo
  load together --duration 10s --users 4 --tenant acme=@ACME:1:mira --tenant beta=@BETA:1:tomo
  load acme-floods --duration 10s --users 16 --tenant acme=@ACME:7:mira --tenant beta=@BETA:1:tomo
  load vip-alone --duration 10s --users 1 --batch 1 --model mira --key @VIP --priority high
  load beside-vip --duration 14s --users 12 --key @ACME --priority low > "$out/beside.txt" &
  local beside=$!
  load vip-beside-low --duration 10s --users 1 --batch 1 --model mira --key @VIP --priority high
  wait $beside
  cat "$out/beside.txt"
  echo "== another tenant's model, which must be refused"
  "$bin/lipsync-load-test" --addr "$address" --quiet --duration 1s --users 1 --tenant beta=@BETA:1:mira 2>&1 \
    && { echo "FAILED: it was served"; exit 1; }
  stop_server
  ! grep -l -e "$ACME" -e "$BETA" -e "$VIP" "$out"/*.json "$out"/server.* || { echo "FAILED: a key is in a file"; exit 1; }
}

# Baking meanwhile would disturb the figures.
"$bin/lipsync-server" --config "$root/config.yaml" bake > "$out/bake.txt"
case ${1:-} in
  overhead) overhead "${@:2}" ;;
  table) table ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
