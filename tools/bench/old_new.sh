#!/usr/bin/env bash
# What a frame costs the host, at an older commit and now: page faults and allocations with networks on the made-up
# device, and frames a second through gRPC with a network that costs nothing, both with faces of FACE_PX pixels.
#
#   tools/bench/old_new.sh build FOLDER OLD [NEW]   # commits; NEW is HEAD unless told otherwise
#   tools/bench/old_new.sh run FOLDER [ROUNDS]      # in turns; 3 rounds unless told otherwise
#
# Two calls, because building wants time and running wants a quiet machine. Needs cargo, python3, cc and glibc.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
face_px=${FACE_PX:-300}

# Mira's rectangles, as large as asked for, around the same middle.
enlarge() { # FILE
  python3 - "$1" "$face_px" <<'PYTHON'
import json, pathlib, sys
path, px = pathlib.Path(sys.argv[1]), int(sys.argv[2])
def around(x0, y0, x1, y1):
    left, top = (x0 + x1 - px) // 2, (y0 + y1 - px) // 2
    return [left, top, left + px, top + px]
path.write_text(json.dumps([around(*each) for each in json.loads(path.read_text())]))
PYTHON
}

build() { # FOLDER, NAME, COMMIT
  local tree=$1/$2
  git clone -q --no-checkout "$root" "$tree"
  git -C "$tree" checkout -q --detach "$(git -C "$root" rev-parse "$3^{commit}")"
  enlarge "$tree/assets/avatars/mira/crop_rectangles.json"
  # The made-up device's kernels run in the same process, and allocate 163 MB a frame: here they compute nothing.
  local fake=$tree/crates/engine/src/cuda/driver/fake.rs
  sed -i 's/is_computing: true,/is_computing: false,/
    s/Work::Launch(launch) => twin::run(launch, memory)?,/Work::Launch(_) => {}/' "$fake"
  if grep -q 'is_computing: true,\|Work::Launch(launch) => twin::run' "$fake"; then
    echo "$fake: its kernels would run" >&2
    exit 1
  fi
  grep -q 'is_computing: false,\|Work::Launch(_) => {}' "$fake"
  # So no model would pass the trial of its values, where there is one already.
  local trial=$tree/crates/registry/src/trial.rs
  if [ -e "$trial" ]; then
    sed -i 's/^    match loader.try_values(/    if !frames.is_empty() { return Ok(()); }\n&/' "$trial"
    grep -q 'if !frames.is_empty() { return Ok(()); }' "$trial"
  fi
  # The program that counts is this tree's.
  cp "$root/benches/made_up_device.rs" "$tree/benches/"
  # Both have the heap of their commit's server, where that sets one up.
  if [ -e "$tree/crates/engine/src/heap.rs" ]; then
    local bench
    for bench in "$tree"/benches/{made_up_device,wire}.rs; do
      grep -q heap::configure "$bench" ||
        sed -i 's/^fn main() -> .*{$/&\n    let _taken = lipsync_engine::heap::configure();/' "$bench"
      grep -q heap::configure "$bench"
    done
  fi
  grep -q made_up_device "$tree/Cargo.toml" ||
    printf '\n[[bench]]\nname = "made_up_device"\nharness = false\n' >>"$tree/Cargo.toml"
  for bench in made_up_device wire; do
    # One folder for both commits: most of what they need is the same.
    (cd "$tree" && CARGO_TARGET_DIR=$1/target cargo bench --no-run -p lipsync --bench "$bench" --message-format json) |
      python3 -c 'import json, sys
found = [json.loads(line) for line in sys.stdin]
print(*[each["executable"] for each in found if each.get("executable")][-1:])' >"$1/$2.$bench.path"
    cp "$(cat "$1/$2.$bench.path")" "$1/$2.$bench"
  done
}

case ${1:-} in
build)
  mkdir -p "$2"
  folder=$(realpath "$2")
  cc -shared -fPIC -O2 -o "$folder/allocations.so" "$here/allocations.c"
  build "$folder" old "$3"
  build "$folder" new "${4:-HEAD}"
  ;;
run)
  folder=$(realpath "$2")
  for round in $(seq "${3:-3}"); do
    for name in old new; do
      echo "== $name ($(git -C "$folder/$name" log -1 --format=%h)), round $round, faces of $face_px pixels"
      LD_PRELOAD=$folder/allocations.so LIPSYNC_ALLOCATIONS=$folder/counts "$folder/$name.made_up_device"
      "$folder/$name.wire"
    done
  done
  ;;
*) sed -n '2,8s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
