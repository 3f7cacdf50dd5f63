#!/usr/bin/env bash
# Fetches both NVRTCs from PyPI where they are missing, then says whether the embedded PTX is what the sources
# give, and compiles every kernel for each architecture. Needs Python 3 with pip, or says that it is missing and
# ends with 0: this machine then cannot tell.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
log=$here/.nvrtc/pip.log
mkdir -p "$here/.nvrtc"
for version in 12.0.140 12.9.86; do
  folder=$here/.nvrtc/$version
  [ ! -d "$folder" ] || continue
  if ! python3 -m pip install --quiet --retries 1 --timeout 20 --disable-pip-version-check --no-deps --target "$folder.part" \
      "nvidia-cuda-nvrtc-cu12==$version" > "$log" 2>&1; then
    rm -rf "$folder.part"
    echo "not checked: NVRTC $version cannot be installed with pip here (see $log)"
    exit 0
  fi
  mv "$folder.part" "$folder"
done
python3 "$here/compile.py" check
