#!/usr/bin/env python3
"""Compiles the engine's CUDA kernels with NVRTC, which needs neither a GPU nor a CUDA toolkit.

    compile.py write    makes the embedded PTX from the sources
    compile.py check    says whether the embedded PTX is what the sources give, and compiles every
                        kernel to machine code for each architecture

The two NVRTCs come from PyPI: see the README. Their folders are looked for in
NVRTC_PTX and NVRTC_CODE, otherwise below .nvrtc beside this file.
"""

import argparse
import ctypes
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
KERNELS = HERE.parent.parent / "crates/engine/src/cuda/kernels"
PTX = KERNELS.parent / "ptx" / "kernels.ptx"
RECORD = PTX.with_name("kernels.sha256")
# The oldest NVRTC of CUDA 12, so that the PTX is of ISA 8.0, which drivers from 525.60 on accept.
PTX_VERSION = "12.0.140"
# One that knows the newest architectures.
CODE_VERSION = "12.9.86"
ARCHITECTURES = ["80", "86", "89", "90", "100", "120"]


def nvrtc(variable, version):
    """The library of one version."""
    folder = pathlib.Path(os.environ.get(variable, HERE / ".nvrtc" / version))
    found = sorted(folder.glob("**/libnvrtc.so.12"))
    if not found:
        sys.exit(f"no NVRTC {version} below {folder}: see the README")
    # Loaded first, because NVRTC looks for it by name only.
    for builtins in found[0].parent.glob("libnvrtc-builtins.so*"):
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(found[0]))


def sources():
    """The kernels' sources by name, and a hash of them all."""
    files = {path.name: path.read_bytes() for path in sorted(KERNELS.glob("*.cu*"))}
    digest = hashlib.sha256()
    for name, text in files.items():
        digest.update(name.encode() + b"\0" + text + b"\0")
    return files, digest.hexdigest()


def call(result, library, what, program=None):
    """Ends the program where a call failed, with the compiler's words."""
    if result == 0:
        return
    log = b""
    if program is not None:
        size = ctypes.c_size_t()
        library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        library.nvrtcGetProgramLog(program, buffer)
        log = buffer.value
    sys.exit(f"{what} failed ({result})\n{log.decode()}")


def compile(library, architecture, kind):
    """PTX or machine code (kind "PTX" or "CUBIN") for an architecture such as compute_80 or sm_90."""
    files, _ = sources()
    main = files.pop("kernels.cu")
    names = (ctypes.c_char_p * len(files))(*[name.encode() for name in files])
    texts = (ctypes.c_char_p * len(files))(*files.values())
    program = ctypes.c_void_p()
    created = library.nvrtcCreateProgram(
        ctypes.byref(program), main, b"kernels.cu", len(files), texts, names
    )
    call(created, library, "creating a program")
    options = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17"]
    compiled = library.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*options)
    )
    call(compiled, library, f"compiling for {architecture}", program)
    size = ctypes.c_size_t()
    call(getattr(library, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)), library, kind)
    buffer = ctypes.create_string_buffer(size.value)
    call(getattr(library, f"nvrtcGet{kind}")(program, buffer), library, kind)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return buffer.raw


def make_ptx():
    ptx = compile(nvrtc("NVRTC_PTX", PTX_VERSION), "compute_80", "PTX").rstrip(b"\0")
    if b"\n.version 8.0" not in ptx:
        sys.exit("the PTX is not of ISA 8.0: was another NVRTC loaded?")
    return ptx


def write():
    PTX.parent.mkdir(exist_ok=True)
    PTX.write_bytes(make_ptx())
    RECORD.write_text(sources()[1] + "\n")
    print(f"{PTX.stat().st_size} bytes of PTX")


def usage_of_registers(code):
    """What ptxas says of spills, where there is a ptxas; see the README."""
    ptxas = os.environ.get("PTXAS")
    if not ptxas:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "kernels.cubin"
        command = [ptxas, "-v", f"-arch=sm_{code}", str(PTX), "-o", str(out)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill stores", said)]
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", said)]
    return f", at most {max(registers)} registers, {sum(spills)} bytes spilled"


def check():
    if PTX.read_bytes() != make_ptx() or RECORD.read_text().strip() != sources()[1]:
        sys.exit("the embedded PTX is not what the sources give: run compile.py write")
    print("the embedded PTX is what the sources give")
    library = nvrtc("NVRTC_CODE", CODE_VERSION)
    for architecture in ARCHITECTURES:
        n_bytes = len(compile(library, f"sm_{architecture}", "CUBIN"))
        print(f"sm_{architecture}: {n_bytes} bytes of code{usage_of_registers(architecture)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["write", "check"])
    {"write": write, "check": check}[parser.parse_args().action]()
