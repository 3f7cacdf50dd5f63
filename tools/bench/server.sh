# Sourced by the scripts of this folder: one server at a time, whose output goes to the folder `out`.
# shellcheck shell=bash disable=SC2154 # `out` is the script's.

server_pid=
stop_server() {
  [ -z "$server_pid" ] || { kill "$server_pid" && wait "$server_pid" || true; } 2>/dev/null
  server_pid=
}
trap stop_server EXIT

# serve COMMAND...: starts it and sets `address` once it serves.
serve() {
  "$@" > "$out/server.txt" 2> "$out/server.log" &
  server_pid=$!
  address=
  for _ in $(seq 300); do
    address=$(sed -n 's/^ *gRPC *\([0-9.:]*\).*/\1/p' "$out/server.txt")
    [ -z "$address" ] || return 0
    kill -0 "$server_pid" 2>/dev/null || break
    sleep 0.1
  done
  echo "the server did not start:" >&2
  cat "$out/server.log" >&2
  exit 1
}
