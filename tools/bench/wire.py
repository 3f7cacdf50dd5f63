"""The messages of proto/lipsync/v1/lipsync.proto, compiled when they are needed."""

import importlib
import pathlib
import sys

from grpc_tools import protoc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


def messages(folder):
    """Compiles into `folder` and returns the module; `folder` may be deleted afterwards."""
    arguments = ["", f"-I{PROTO}", f"--python_out={folder}", "lipsync/v1/lipsync.proto"]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc failed")
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("lipsync.v1.lipsync_pb2")
    finally:
        sys.path.pop(0)
