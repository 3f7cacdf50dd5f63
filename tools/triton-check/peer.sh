#!/usr/bin/env bash
# Asks a running server and NVIDIA's own tritonserver the same, and compares the answers field by field.
#
#     tools/triton-check/peer.sh HOST:PORT MODEL
#
# tritonserver comes from PyPI (nvidia-pytriton, Linux on x86-64 or Arm) and needs no GPU. It serves the stand-in for an avatar in
# peer/ on ports of this machine, from PEER_PORT on (default 50181).
set -euo pipefail
cd "$(dirname "$0")/../.."
address=${1:?HOST:PORT} model=${2:?MODEL} port=${PEER_PORT:-50181}
here=$PWD/tools/triton-check
home=$PWD/target/triton-check/peer
mkdir -p "$home"
if [ ! -e "$home/done" ]; then
    python3 -m venv "$home"
    "$home/bin/pip" install -q nvidia-pytriton==0.7.0
    touch "$home/done"
fi
packages=$(echo "$home"/lib/python3*/site-packages)
triton=$packages/pytriton/tritonserver
python=$("$home/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# The program that runs models is made for one version of Python each.
cp "$triton/python_backend_stubs/$python/triton_python_backend_stub" "$triton/backends/python/"
rm -rf "$home/models"
cp -r "$here/peer" "$home/models"
for name in stand_in stand_in_decoupled; do
    mkdir -p "$home/models/$name/1"
    cp "$here/peer/model.py" "$home/models/$name/1/"
done
PATH=$home/bin:$PATH PYTHONPATH=$packages LD_LIBRARY_PATH=$packages/nvidia_pytriton.libs \
    "$triton/bin/tritonserver" --model-repository="$home/models" --backend-directory="$triton/backends" \
    --model-control-mode=explicit --load-model=stand_in --load-model=stand_in_decoupled \
    --grpc-address=127.0.0.1 --http-address=127.0.0.1 --metrics-address=127.0.0.1 \
    --grpc-port="$port" --http-port=$((port + 1)) --metrics-port=$((port + 2)) >"$home/log" 2>&1 &
trap 'kill %1 2>/dev/null' EXIT
for _ in $(seq 240); do
    kill -0 %1 2>/dev/null || { tail -n 20 "$home/log"; exit 1; }
    curl -sf "http://127.0.0.1:$((port + 1))/v2/health/ready" && break
    sleep 0.25
done
timeout 300 "$home/bin/python" "$here/compare.py" "$address" "$model" "127.0.0.1:$port"
