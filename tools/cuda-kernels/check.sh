#!/usr/bin/env bash
# Fetches both NVRTCs from PyPI where they are missing, then says whether the embedded PTX is what the sources
# give, and compiles every kernel for each architecture. Needs Python 3 with pip, or says that it is missing and
# ends with 0: this machine then cannot tell.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if ! why=$("$here/fetch.sh"); then
  echo "not checked: $why"
  exit 0
fi
python3 "$here/compile.py" check
