#!/usr/bin/env bash
# Fetches the compilers that the other scripts use from PyPI, where they are missing: both NVRTCs; with `all`, also
# ptxas and nvdisasm. Needs Python 3 with pip. Ends with 1, and says why, where that does not work.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
log=$here/.nvrtc/pip.log
mkdir -p "$here/.nvrtc"

fetch() { # FOLDER, PACKAGE
  [ ! -d "$here/.nvrtc/$1" ] || return 0
  local part=$here/.nvrtc/$1.part
  if ! python3 -m pip install --quiet --retries 1 --timeout 20 --disable-pip-version-check --no-deps --target "$part" \
      "$2" > "$log" 2>&1; then
    rm -rf "$part"
    echo "$2 cannot be installed with pip here (see $log)"
    exit 1
  fi
  mv "$part" "$here/.nvrtc/$1"
}

fetch 12.0.140 nvidia-cuda-nvrtc-cu12==12.0.140
fetch 12.9.86 nvidia-cuda-nvrtc-cu12==12.9.86
if [ "${1:-}" = all ]; then
  fetch nvcc-12.9.86 nvidia-cuda-nvcc-cu12==12.9.86
  fetch nvdisasm-13.5.37 nvidia-cuda-nvdisasm==13.5.37
fi
