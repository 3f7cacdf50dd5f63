#!/usr/bin/env bash
# Makes one file to carry to a machine with an NVIDIA GPU and its driver, and without Rust. What is compared with
# PyTorch needs that there, numpy, and for torch.compile a C compiler.
#
#   tools/gpu-check/pack.sh gpu-check.tar.gz
#
# There: tar xf gpu-check.tar.gz && python3 gpu-check/run.py
# The C library there must be no older than here. PROFILE=dev packs what is not built for speed, to try `run.py --dry`.
set -euo pipefail
out=$(realpath -m "${1:-gpu-check.tar.gz}")
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"

profile=${PROFILE:-release}
cargo build --profile "$profile" --locked -p lipsync-server -p lipsync-load-test
cargo build --profile "$profile" --locked -p lipsync-engine --example gpu_check --example write_network

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
folder=$made/gpu-check
mkdir -p "$folder/bin"
target=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
# Cargo's name for the folder of the profile `dev` is `debug`.
built=$target/${profile/#dev/debug}
for binary in lipsync-server lipsync-load-test examples/gpu_check examples/write_network; do
  strip -o "$folder/bin/$(basename "$binary")" "$built/$binary"
done
cp tools/gpu-check/{*.py,README.md} "$folder/"

# Mira. run.py gives the same pictures to a network of full size: 45 MB that need not be carried.
mkdir -p "$folder/mira"
cp -r assets/avatars/mira/{avatar.yaml,generator.onnx,audio_encoder.onnx,crop_rectangles.json,frames} "$folder/mira/"
cat > "$folder/config.yaml" <<'YAML'
server: {port: "127.0.0.1:50051", worker_count: 8, queue_size: 10000, shutdown_grace_s: 10}
operations: {enabled: false}
engine: {device: "cuda:0"}
models:
  mira: {path: mira, preload: true}
  full: {path: full, preload: true}
YAML
git describe --always --dirty --abbrev=40 > "$folder/COMMIT"
tar -C "$made" -czf "$out" gpu-check
ls -lh "$out"
