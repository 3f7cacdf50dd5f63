#!/usr/bin/env python3
"""Starts a server and runs the clients in other languages against it: tools/foreign-clients/test.py [MODEL].

The server is LIPSYNC_SERVER_BIN, or what cargo builds. run.sh has the rest, and the exit codes.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "clients/python/tests"))

from servers import find_binary, running  # noqa: E402

model = sys.argv[1] if len(sys.argv) > 1 else "mira"
with running(find_binary()) as (address, _):
    sys.exit(subprocess.run([HERE / "run.sh", address, model], check=False).returncode)
