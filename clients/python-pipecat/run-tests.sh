#!/usr/bin/env bash
# Checks the package: formatting, lints, types, and the tests with Pipecat's own pipeline against a real server,
# which cargo builds unless LIPSYNC_SERVER_BIN names one. The environment is made on the first run (VENV names
# another place); `run-tests.sh --install` makes it and checks nothing.
set -euo pipefail
cd "$(dirname "$0")"
venv=${VENV:-.venv}
if [ ! -x "$venv/bin/pytest" ] || [ pyproject.toml -nt "$venv/.installed" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q -e ../python -e '.[dev]'
  touch "$venv/.installed"
fi
[ "${1:-}" != --install ] || exit 0
"$venv/bin/ruff" format --check .
"$venv/bin/ruff" check .
"$venv/bin/mypy"
"$venv/bin/pytest" -q "$@"
