#!/usr/bin/env bash
# Checks one of the Python packages: formatting, lints, types, and the tests against a real server, which cargo builds
# unless LIPSYNC_SERVER_BIN names one. Each package's own run-tests.sh calls it with its folder.
#
#     run-tests.sh PACKAGE [--install | what pytest takes]
#
# The environment is made on the first run (VENV names another place); --install makes it and checks nothing.
set -euo pipefail
cd "$1"
shift
venv=${VENV:-.venv}
if [ ! -x "$venv/bin/pytest" ] || [ pyproject.toml -nt "$venv/.installed" ]; then
  python3 -m venv "$venv"
  # The other packages build on the one in ../python.
  "$venv/bin/pip" install -q -e ../python -e '.[dev]'
  touch "$venv/.installed"
fi
[ "${1:-}" != --install ] || exit 0
"$venv/bin/ruff" format --check .
"$venv/bin/ruff" check .
"$venv/bin/mypy"
# -rs: what was skipped, and why.
"$venv/bin/pytest" -q -rs "$@"
