"""Copies the installed ONNX Runtime and keeps the copy to AVX2, on a processor that has more.

Usage: onnxruntime_avx2.py FOLDER

ONNX Runtime asks the processor itself, and has no setting for it. In the copy, XGETBV tells the choice of kernels that
the system keeps no registers of AVX-512 and AMX, and leaf 7.1 of CPUID that there is no AVX-VNNI. So the choice is that
on a processor with AVX2 and FMA. A library whose code looks otherwise is refused.

At the end it prints the environment in which Python finds the copy, and NumPy, OpenCV, OpenVINO and glibc keep to AVX2:

  settings=$(python tools/bench/onnxruntime_avx2.py out/avx2) && env $settings python tools/bench/engine_vs_peers.py --isa avx2
"""

import argparse
import importlib.util
import pathlib
import shutil
import sys

ENVIRONMENT = {
    # On an older NumPy or OpenCV unknown names only warn.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4,AVX512_ICL,AVX512_SPR",
    "OPENCV_CPU_DISABLE": "AVX512-SKX",
    "OPENCV_IPP": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512BW,-AVX512VL",
}

# xor ecx, ecx; xgetbv. ecx names the register that is read.
XGETBV = bytes.fromhex("31c90f01d0")
# xor ecx, ecx; lea eax, [rcx + 7].
SEVEN = bytes.fromhex("31c98d4107")
# The same in MLAS, which has the kernels: it goes on by making one number of 64 bits of two of 32.
MLAS = XGETBV + bytes.fromhex("89c048c1e2204809c2")
# Its question for AVX-VNNI: mov eax, 7; mov ecx, 1; cpuid; test al, 16.
VNNI = bytes.fromhex("b807000000b9010000000fa2a810")
# The same length: eax, ebx, ecx, edx = 0; a nop of four bytes; the test.
NO_VNNI = bytes.fromhex("31c031db31c931d20f1f4000a810")


def patched(code):
    """The library's bytes, kept to AVX2. Says on stderr what was found."""
    n_mlas, n_vnni = code.count(MLAS), code.count(VNNI)
    if n_mlas == 0 or n_mlas != n_vnni:
        sys.exit(f"not a library that this script knows: {n_mlas} and {n_vnni} places where MLAS asks the processor")
    print(f"XGETBV: {code.count(XGETBV)} places, {n_mlas} of them of MLAS; AVX-VNNI: {n_vnni} places", file=sys.stderr)
    return code.replace(XGETBV, SEVEN).replace(VNNI, NO_VNNI)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder.resolve()
    installed = pathlib.Path(importlib.util.find_spec("onnxruntime").origin).resolve().parent
    if folder in installed.parents:
        sys.exit("that is where it is installed")
    [library] = installed.glob("capi/onnxruntime_pybind11_state*.so")
    code = patched(library.read_bytes())
    copy = folder / installed.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(installed, copy)
    (copy / library.relative_to(installed)).write_bytes(code)
    print(" ".join(f"{name}={value}" for name, value in {"PYTHONPATH": folder, **ENVIRONMENT}.items()))


if __name__ == "__main__":
    main()
