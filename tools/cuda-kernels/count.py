#!/usr/bin/env python3
"""Counts the instructions that a GPU issues for a frame, without a GPU.

    cargo run --release -p lipsync-engine --example gpu_check -- --listing 328-ave | ./count.py -
    ./count.py LISTING [--arch sm_90] [--sample 6] [--ptx FILE] [--launches] [--loops]

ptxas compiles the embedded PTX (or FILE), nvdisasm prints what it made, and warps of a sample of every launch's blocks
are run through that as far as integers and branches go (`sass/warp.py`). So loops, borders and what is left out
count as they come; an instruction whose predicate is false counts too, since it is issued.

PTXAS and NVDISASM name the two programs; otherwise they are looked for below .nvrtc: see the README.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

from sass.listing import kernels
from sass.warp import Warp

HERE = pathlib.Path(__file__).resolve().parent
PTX = HERE.parent.parent / "crates/engine/src/cuda/ptx/kernels.ptx"
ARCHITECTURES = ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]
# Where a kernel's parameters are among the constants.
PARAMETERS = {"8": 0x160, "9": 0x210, "1": 0x380}
# An H100 or H200: multiprocessors, clock, and instructions that one issues a clock, of four at most. The last two are
# guesses until somebody has measured them.
MULTIPROCESSORS, CLOCK_GHZ, ISSUED = 132, 1.755, 2.4


def program(variable, name):
    """A program of the toolkit."""
    if variable in os.environ:
        return os.environ[variable]
    found = sorted((HERE / ".nvrtc").glob(f"**/bin/{name}"))
    if not found:
        sys.exit(f"no {name} below .nvrtc: see the README")
    found[-1].chmod(0o755)
    return str(found[-1])


def compile(ptx, architecture, folder):
    """Machine code of an architecture, and what each kernel takes: registers, bytes spilled."""
    cubin = pathlib.Path(folder) / f"{architecture}.cubin"
    command = [program("PTXAS", "ptxas"), "-v", f"-arch={architecture}", str(ptx), "-o", str(cubin)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    usage, name, spilled = {}, None, 0
    for line in said.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)'", line):
            name = match[1]
        elif match := re.search(r"(\d+) bytes spill stores", line):
            spilled = int(match[1])
        elif match := re.search(r"Used (\d+) registers", line):
            usage[name] = (int(match[1]), spilled)
    return cubin, usage


def disassemble(cubin):
    command = [program("NVDISASM", "nvdisasm"), str(cubin)]
    return kernels(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


class Counter:
    """Counts launches of one architecture's kernels."""

    def __init__(self, code, architecture, n_sampled):
        self.code, self.n_sampled = code, n_sampled
        self.parameters = PARAMETERS[architecture.removeprefix("sm_")[0]]
        # By kernel and address, of one frame.
        self.issued = collections.defaultdict(lambda: collections.Counter())
        self.known = {}

    def warps(self, launch, n_frames, share):
        """Warp instructions of a launch; `share` of them count for a frame."""
        key = json.dumps([launch[name] for name in ("kernel", "grid", "args")])
        if key not in self.known:
            self.known[key] = self.sampled(launch)
        total = 0
        for address, n in self.known[key].items():
            total += n
            self.issued[launch["kernel"]][address] += n * share / n_frames
        return total

    def sampled(self, launch):
        args = bytes.fromhex(launch["args"])
        constants = {self.parameters + at: args[at : at + 4] for at in range(0, len(args), 4)}
        n_blocks, n_threads, _ = launch["grid"]
        # Where sm_80 to sm_90 keep the size of a block, and where later ones do.
        constants[0] = constants[0x360] = struct.pack("<I", n_threads)
        # Steps of the golden ratio: all rows, columns and frames come, and borders about as often as they should.
        steps = range(min(self.n_sampled, n_blocks))
        blocks = sorted({int((at + 0.5) * 0.6180339887 % 1 * n_blocks) for at in steps})
        counts = collections.Counter()
        for block in blocks:
            for warp in range((n_threads + 31) // 32):
                kernel = self.code[launch["kernel"]]
                found = Warp(kernel, constants, block, warp, n_threads).run()
                for instruction, n in zip(kernel.code, found):
                    if n:
                        counts[instruction.address] += int(n) * n_blocks / len(blocks)
        return counts


def print_usage(ptx, folder):
    """Registers and spills of every kernel on every architecture."""
    each = {name: compile(ptx, name, folder)[1] for name in ARCHITECTURES}
    print("registers (and bytes spilled, where there are any)")
    print(f"  {'':16}" + "".join(f"{name:>8}" for name in ARCHITECTURES))
    for kernel in sorted(each["sm_90"]):
        row = [each[name][kernel] for name in ARCHITECTURES]
        text = [f"{n}+{spilled}" if spilled else str(n) for n, spilled in row]
        print(f"  {kernel:16}" + "".join(f"{cell:>8}" for cell in text))
    spilled = sum(spilled for usage in each.values() for _, spilled in usage.values())
    print(f"  {spilled} bytes spilled in all")


def print_loops(code, counter):
    """Every kernel's code by loops, and how often their instructions are issued for a frame."""
    print("instructions of the code by loops around them, and millions issued for a frame there")
    for name, issued in sorted(counter.issued.items()):
        kernel = code[name]
        loops = kernel.loops()
        inside = collections.defaultdict(lambda: [0, 0.0])
        for i in kernel.code:
            around = tuple(first for first, last in loops if first <= i.address <= last)
            inside[around][0] += 1
            inside[around][1] += issued[i.address]
        print(f"  {name}")
        for around, (n, millions) in sorted(inside.items()):
            if millions:
                place = " > ".join(f"{first:#x}" for first in around) or "no loop"
                print(f"    {'  ' * len(around)}{place}: {n}, {millions / 1e6:.3f} M")


def count(lines, code, options):
    for line in lines:
        listing = json.loads(line)
        if listing.get("part") != "listing" or "each" not in listing:
            continue
        batch = listing["batch"]
        counter = Counter(code, options.arch, options.sample)
        totals = {False: collections.Counter(), True: collections.Counter()}
        print(f"{listing['network']}, batches of {batch}, {options.arch}: warp instructions a frame, in millions")
        for launch in listing["each"]:
            of_frame = not launch["visual"]
            n = counter.warps(launch, batch, 1 if of_frame else 0)
            kind = launch["kernel"]
            totals[launch["visual"]][kind] += n / batch
            if options.launches:
                when = "" if of_frame else "visual "
                print(f"  {n / batch / 1e6:8.3f}  {when}{kind}: {launch['shape']}")
        for is_visual, by_kernel in totals.items():
            whole = sum(by_kernel.values())
            if whole == 0:
                continue
            print("once a background frame" if is_visual else "every frame")
            for kind, n in by_kernel.most_common():
                print(f"  {kind:16} {n / 1e6:8.2f} {n / whole:6.1%}")
            print(f"  {'all':16} {whole / 1e6:8.2f}")
            if not is_visual:
                us = whole / (MULTIPROCESSORS * ISSUED * CLOCK_GHZ * 1e3)
                print(f"  at {ISSUED} a clock, {CLOCK_GHZ} GHz and {MULTIPROCESSORS} multiprocessors: {us:.1f} us, "
                      f"{1e6 / us:.0f} frames/s, if nothing else limits it; not run on a GPU")
        if options.loops:
            print_loops(code, counter)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("listing", nargs="?", help="what gpu_check --listing prints, or - for what is piped")
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--sample", type=int, default=6, help="blocks of every launch that are run")
    parser.add_argument("--ptx", default=str(PTX), help="other kernels than the embedded")
    parser.add_argument("--launches", action="store_true", help="every launch")
    parser.add_argument("--loops", action="store_true", help="every loop")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print_usage(options.ptx, folder)
        if options.listing:
            cubin, _ = compile(options.ptx, options.arch, folder)
            code = disassemble(cubin)
            file = sys.stdin if options.listing == "-" else open(options.listing)
            count(file, code, options)


if __name__ == "__main__":
    main()
