#!/usr/bin/env bash
# Makes an avatar with a full-size 328 network (12.2 M parameters, seeded weights: it moves no mouth, it
# only costs what a real one costs) and Mira's pictures, for load tests.
#
#   tools/bench/full_size_avatar.sh out/full
#   LIPSYNC_MODELS__FULL__PATH=$PWD/out/full cargo run --release
#   cargo run --release --bin lipsync-load-test -- --model full
set -euo pipefail
folder=${1:?usage: full_size_avatar.sh FOLDER}
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$folder"
cargo run --release --quiet --manifest-path "$root/Cargo.toml" -p lipsync-engine --example write_network -- "$folder" 328-ave
mv "$folder/328-ave.onnx" "$folder/generator.onnx"
cp -r "$root/assets/avatars/mira/"{frames,crop_rectangles.json,audio_encoder.onnx} "$folder/"
cat > "$folder/avatar.yaml" <<'YAML'
name: Full size
audio_kind: ave
fps: 25
generator: generator.onnx
audio_encoder: audio_encoder.onnx
frames: frames
crop_rectangles: crop_rectangles.json
YAML
