#!/usr/bin/env bash
# Checks the proto files with buf (https://buf.build): lint, and no change that breaks clients.
#
#     tools/proto-check/check.sh [REVISION]       compares with REVISION; default: the last tag, or else the
#                                                 first commit that has these rules
#     tools/proto-check/check.sh --install        takes buf from PyPI if it is not on the path, and checks nothing
#     tools/proto-check/check.sh --descriptor F   writes the descriptor set of all services, with comments, to F
#
# buf.yaml has the rules and the reasons for exceptions.
set -euo pipefail
cd "$(dirname "$0")/../.."
buf=$(command -v buf || true)
if [ -z "$buf" ]; then
  home=$PWD/target/buf
  if [ ! -e "$home/done" ]; then
    python3 -m venv "$home"
    "$home/bin/pip" install -q --retries 1 --timeout 20 buf-bin==1.75.0
    touch "$home/done"
  fi
  buf=$home/bin/buf
fi
case ${1:-} in
  --install) exit 0 ;;
  --descriptor)
    "$buf" build -o "${2:?FILE}#format=binpb"
    exit 0
    ;;
esac

"$buf" lint
first=$(git log --diff-filter=A --format=%H -- buf.yaml | tail -n 1)
base=${1:-$(git describe --tags --abbrev=0 2>/dev/null || echo "$first")}
# A checkout may be shallow, and a tag older than these rules.
if [ -z "$base" ] || ! git cat-file -e "$base:buf.yaml" 2>/dev/null; then
  echo "buf breaking: skipped, ${base:-no revision} has no buf.yaml"
  exit 0
fi
before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
git archive "$base" proto buf.yaml | tar -x -C "$before"
"$buf" breaking --against "$before"
echo "proto: lint is clean, and nothing breaks clients of $base"
