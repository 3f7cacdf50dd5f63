#!/usr/bin/env bash
# Runs the clients in examples/node, examples/go and examples/java against a running server, as their users would
# build them, and checks that each gets the same 25 pictures.
#
#     tools/foreign-clients/run.sh HOST:PORT MODEL
#     tools/foreign-clients/run.sh --install          takes the toolchains of Go and Java from Debian (as root)
#     tools/foreign-clients/test.py                   starts a server of its own for that
#
# Node takes its packages from npm. What is not there is named. The exit code is 1 if a client failed, and 77 if fewer than two
# could run.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ "${1:-}" = --install ]; then
  apt-get install -y -q protobuf-compiler \
    golang-go golang-google-grpc-dev golang-github-golang-protobuf-1-5-dev protoc-gen-go-1-5 protoc-gen-go-grpc \
    default-jdk-headless protobuf-compiler-grpc-java-plugin libgrpc-java libprotobuf-java libnetty-java libperfmark-java
  exit 0
fi
address=${1:?HOST:PORT} model=${2:?MODEL}
root=$PWD
home=$PWD/target/foreign-clients
wav=$PWD/assets/speech/welcome.wav
mkdir -p "$home"
ran=()

# $1: whose pictures
checked() {
  local n
  n=$(find "$home/$1-out" -name '*.jpg' | wc -l)
  [ "$n" = 25 ] || { echo "$1: expected 25 pictures, found $n" >&2; exit 1; }
  if [ "${#ran[@]}" -gt 0 ] && ! diff -r "$home/${ran[0]}-out" "$home/$1-out"; then
    echo "$1: other pictures than ${ran[0]}" >&2
    exit 1
  fi
  ran+=("$1")
}

# $1: whose, the rest: programs and files that it needs
can_run() {
  local whose=$1 what
  shift
  rm -rf "$home/$whose-out"
  for what in "$@"; do
    if ! command -v "$what" >/dev/null && [ ! -e "$what" ]; then
      echo "$whose: skipped, $what is missing (run.sh --install)"
      return 1
    fi
  done
  echo "== $whose"
}

if can_run node node npm; then
  mkdir -p "$home/node/examples/node"
  cp examples/node/* "$home/node/examples/node"
  ln -sfn "$root/proto" "$home/node/proto"
  if npm install --silent --no-audit --no-fund --prefix "$home/node/examples/node"; then
    node "$home/node/examples/node/speak.mjs" "$address" "$model" "$wav" "$home/node-out"
    checked node
  else
    echo "node: skipped, npm cannot install its packages"
  fi
fi

if can_run go go protoc protoc-gen-go protoc-gen-go-grpc /usr/share/gocode/src/google.golang.org/grpc; then
  # The import path is the proto file's go_package; with modules it is the module's own folder.
  rm -rf "$home/go"
  mkdir -p "$home/go/src/speak"
  protoc -I proto --go_out="$home/go/src" --go-grpc_out="$home/go/src" lipsync/v1/lipsync.proto
  cp examples/go/main.go "$home/go/src/speak"
  GO111MODULE=off GOFLAGS= GOPATH="$home/go:/usr/share/gocode" go build -o "$home/go/speak" speak
  "$home/go/speak" "$address" "$model" "$wav" "$home/go-out"
  checked go
fi

java_home=/usr/share/java
if can_run java java javac protoc grpc_java_plugin "$java_home/grpc-netty.jar" "$java_home/protobuf.jar"; then
  rm -rf "$home/java"
  mkdir -p "$home/java/src" "$home/java/classes"
  protoc -I proto --java_out="$home/java/src" --grpc-java_out="$home/java/src" \
    --plugin=protoc-gen-grpc-java="$(command -v grpc_java_plugin)" lipsync/v1/lipsync.proto
  cp examples/java/Speak.java "$home/java/src"
  # Each is there twice, with and without its version.
  jars=$(find "$java_home" -maxdepth 1 \( -name 'grpc-*.jar' -o -name 'netty-*.jar' -o -name 'protobuf.jar' \
    -o -name 'guava.jar' -o -name 'jctools-core.jar' -o -name 'perfmark-api.jar' -o -name 'perfmark-impl.jar' -o -name 'geronimo-annotation-1.3-spec.jar' \) \
    ! -name '*-[0-9]*.[0-9]*.[0-9]*.jar' | sort | paste -sd :)
  find "$home/java/src" -name '*.java' -print0 | xargs -0 javac -nowarn -d "$home/java/classes" -cp "$jars"
  java -cp "$home/java/classes:$jars" Speak "$address" "$model" "$wav" "$home/java-out"
  checked java
fi

echo "${#ran[@]} clients ran: ${ran[*]}"
[ "${#ran[@]}" -ge 2 ] || exit 77
