#!/usr/bin/env bash
# Drives a running server with Triton's and KServe's own clients, and Triton's perf_analyzer.
#
#     tools/triton-check/check.sh HOST:PORT MODEL [SECONDS]
#
# Installs them from PyPI into folders beside the build (target/triton-check). What cannot be installed is named.
set -euo pipefail
cd "$(dirname "$0")/../.."
address=${1:?HOST:PORT} model=${2:?MODEL} seconds=${3:-10}
here=$PWD/tools/triton-check
home=$PWD/target/triton-check
mkdir -p "$home"

# $1: name of the environment, the rest: packages
environment() {
    local name=$1
    shift
    if [ ! -e "$home/$name/done" ]; then
        python3 -m venv "$home/$name"
        "$home/$name/bin/pip" install -q "$@"
        touch "$home/$name/done"
    fi
}

environment triton "tritonclient[grpc]==2.73.0"
timeout 300 "$home/triton/bin/python" "$here/smoke.py" "$address" "$model"
environment kserve "kserve==0.21.0"
timeout 120 "$home/kserve/bin/python" "$here/kserve_smoke.py" "$address" "$model" 2>/dev/null

# The last wheel with the program in it.
environment perf "tritonclient[grpc]==2.50.0" nvidia-cuda-runtime-cu12
analyzer=$home/perf/bin/perf_analyzer
libraries=$(echo "$home"/perf/lib/python3*/site-packages/nvidia/cuda_runtime/lib)
if ! ldconfig -p | grep -q libb64.so; then
    echo "perf_analyzer: skipped, it needs libb64 (Debian: apt-get install libb64-0d)"
    exit 0
fi
"$home/triton/bin/python" "$here/speech_json.py" >"$home/speech.json"
LD_LIBRARY_PATH=$libraries "$home/triton/bin/python" "$here/rates.py" "$analyzer" "$address" "$model" "$home/speech.json" "$seconds"
