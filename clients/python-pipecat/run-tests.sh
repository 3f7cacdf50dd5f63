#!/usr/bin/env bash
# Checks the package; ../run-tests.sh says how.
exec "$(dirname "$0")/../run-tests.sh" "$(dirname "$0")" "$@"
