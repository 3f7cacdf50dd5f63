#!/usr/bin/env bash
# Compiles the engine's tests for 64-bit Arm and runs them under qemu: the property tests of the NEON kernels, and
# small networks against the scalar executor. It shows that results are right, and nothing of speed.
#
#   tools/arm-check.sh [ARGUMENTS OF cargo test]
#
# Needs root, apt, dpkg, cargo and 2 GB in $ARM_ROOT (default: target/arm). A suite of Debian has rustc for this machine and
# std for Arm of the same version, a cross compiler and qemu. They are unpacked in that folder alone (400 MB from the
# network, once). $QEMU_CPU is the CPU that is emulated (default: max).
set -euo pipefail
cd "$(dirname "$0")/.."
root=${ARM_ROOT:-$PWD/target/arm}
suite=forky
arm=aarch64-unknown-linux-gnu
machine=$(dpkg --print-architecture)

unpack() {
  local apt=$root/apt
  mkdir -p "$apt"/etc/apt/{preferences.d,apt.conf.d} "$apt"/var/lib/{apt/lists/partial,dpkg} "$apt"/var/cache/apt/archives/partial
  touch "$apt/var/lib/dpkg/status"
  echo "deb [arch=$machine,arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" \
    > "$apt/etc/apt/sources.list"
  cat > "$apt/apt.conf" <<CONF
Dir "$apt";
Dir::State "$apt/var/lib/apt";
Dir::State::status "$apt/var/lib/dpkg/status";
Dir::Cache "$apt/var/cache/apt";
Dir::Etc "$apt/etc/apt";
APT::Architecture "$machine";
APT::Architectures {"$machine";"arm64";};
APT::Sandbox::User "root";
APT::Install-Recommends "false";
// For machines whose clock or mirror is off. Packages are signed all the same.
Acquire::Check-Valid-Until "false";
CONF
  export APT_CONFIG=$apt/apt.conf
  apt-get update
  apt-get install -y --download-only rustc cargo libstd-rust-dev:arm64 gcc gcc-aarch64-linux-gnu libc6-dev \
    libc6-dev-arm64-cross qemu-user bash coreutils
  # As in every Debian of today; packages alone do not make these links.
  mkdir -p "$root"/{dev,proc,root,tmp,work} "$root"/usr/{bin,lib,lib64,sbin}
  for folder in bin lib lib64 sbin; do ln -sfn "usr/$folder" "$root/$folder"; done
  for package in "$apt"/var/cache/apt/archives/*.deb; do dpkg -x "$package" "$root"; done
  ln -sf gcc "$root/usr/bin/cc"
  for device in "null 3" "zero 5" "random 8" "urandom 9"; do
    rm -f "$root/dev/${device% *}"
    mknod -m 666 "$root/dev/${device% *}" c 1 "${device#* }"
  done
  touch "$root/complete"
}

[ -e "$root/complete" ] || unpack
cargo fetch --locked
mkdir -p "$root/root/.cargo" "$root/out"
if [ $# -eq 0 ]; then
  set -- --lib --test operators --test executors --test visual_cache -- --skip full_size
fi
exec unshare -m bash -c '
  root=$1 cargo_home=$2 target=$3 cpu=$4
  shift 4
  mount -t proc proc "$root/proc"
  mount --bind . "$root/work"
  mount --bind "$cargo_home" "$root/root/.cargo"
  exec chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/bin CARGO_TARGET_DIR=/out QEMU_CPU="$cpu" \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu" \
    bash -c "cd /work && exec cargo test --offline --locked -p lipsync-engine --target $target \"\$@\"" cargo "$@"
' arm-check "$root" "${CARGO_HOME:-$HOME/.cargo}" "$arm" "${QEMU_CPU:-max}" "$@"
