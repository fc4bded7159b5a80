#!/usr/bin/env bash
# A Ray cluster of two nodes on this machine, one worker's worth each, for tests.
#
#   ray.sh start FOLDER   start it; FOLDER/environment then holds the variables by which to reach it
#   ray.sh lose FOLDER    end the second node's raylet with -9, as a machine that loses power
#   ray.sh stop FOLDER    end what is left of it
#
# RAY names the command, where it is not on the path. FOLDER must be a short path: sockets lie in it.
set -euo pipefail

RAY=${RAY:-ray}
export RAY_USAGE_STATS_ENABLED=0

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start() {
  local folder=$1 port
  port=$(free_port)
  mkdir -p "$folder"
  # A cluster that anyone on the network can reach runs what anyone sends it, hence the token.
  (umask 077 && python3 -c 'import secrets; print(secrets.token_hex(32), end="")' >"$folder/token")
  cat >"$folder/environment" <<END
RAY_ADDRESS=127.0.0.1:$port
RAY_AUTH_MODE=token
RAY_AUTH_TOKEN_PATH=$folder/token
END
  set -a
  . "$folder/environment"
  set +a
  unset RAY_ADDRESS
  "$RAY" start --head --port="$port" --node-name=first --num-cpus=1 --object-store-memory=80000000 \
    --include-dashboard=false --temp-dir="$folder" >"$folder/first.log" 2>&1 || fail "$folder/first.log"
  "$RAY" start --address="127.0.0.1:$port" --node-name=second --num-cpus=1 --object-store-memory=80000000 \
    --temp-dir="$folder" >"$folder/second.log" 2>&1 || fail "$folder/second.log"
}

fail() {
  tail -n 20 "$1" >&2
  exit 1
}

# The ids of this cluster's own processes: each has the folder of its session among its arguments.
processes() {
  pgrep -f -- "${2:-}.*$1/session_.*${3:-}" || true
}

lose() {
  kill -9 $(processes "$1" raylet/raylet --node-name=second)
}

stop() {
  local ids
  for _ in $(seq 50); do
    ids=$(processes "$1")
    [ -n "$ids" ] || return 0
    kill $ids 2>/dev/null || true
    sleep 0.1
  done
  kill -9 $(processes "$1")
}

case "${1:-}" in
  start) start "$2" ;;
  lose) lose "$2" ;;
  stop) stop "$2" ;;
  *) sed -n '2,8p' "$0"; exit 2 ;;
esac
