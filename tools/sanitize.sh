#!/usr/bin/env bash
# Runs the engine's tests under AddressSanitizer: the arena and the plans, the portable path, and the
# property tests of the kernels on every instruction set that this machine has, which hold the unsafe code.
#
#   tools/sanitize.sh [ARGUMENTS OF cargo test]
#
# The stable toolchain does, told to accept the sanitizer's flag. The large networks are left out: they
# run the same code for minutes, and so is the test of the C library's heap, which the sanitizer replaces.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS="detect_leaks=1"
if [ $# -gt 0 ]; then
  exec cargo test --target "$target" --target-dir target/sanitize -p lipsync-engine "$@"
fi
cargo test --target "$target" --target-dir target/sanitize -p lipsync-engine --lib --test operators \
  --test executors --test visual_cache --test bad_files -- --skip full_size --skip flipped_bits --skip the_settings_are_taken
