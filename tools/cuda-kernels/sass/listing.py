"""What nvdisasm prints, as instructions."""

import dataclasses
import re

FUNCTION = re.compile(r"^\.text\.(\w+):")
LABEL = re.compile(r"^(\.L_\w+|\$\w+):")
LINE = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@(!?)(U?PT|U?P\d) +)?([A-Z0-9_.]+)\s*(.*?)\s*;")
TABLE = re.compile(r"^\.nv\.constant2\.(\w+):")
BYTES = re.compile(r"\.byte\s+(.*)")
NOTE = re.compile(r"\(\*.*?\*\)")


@dataclasses.dataclass
class Instruction:
    address: int
    # The predicate that it needs, and whether that must be false.
    guard: str
    guard_is_not: bool
    name: str
    operands: list
    # The address that it branches to.
    target: int = None


@dataclasses.dataclass
class Kernel:
    name: str
    code: list
    # Where branches through a table go.
    table: bytes = b""

    def loops(self):
        """First and last address of every loop, by its branch back."""
        back = {}
        for i in self.code:
            if i.name.startswith("BRA") and i.target is not None and i.target < i.address:
                back[i.target] = max(back.get(i.target, 0), i.address)
        return sorted(back.items())

    def by_depth(self):
        """Instructions by how many loops they are in."""
        loops, found = self.loops(), {}
        for i in self.code:
            depth = sum(first <= i.address <= last for first, last in loops)
            found[depth] = found.get(depth, 0) + 1
        return found


def kernels(text):
    """Every kernel of a disassembly, by name."""
    found, labels, waiting, kernel = {}, {}, [], None
    tables, table = {}, None
    for line in text.splitlines():
        if match := FUNCTION.match(line):
            kernel = found[match[1]] = Kernel(match[1], [])
            labels = {}
            continue
        if line.startswith("\t.section"):
            link(kernel, labels)
            kernel = table = None
        if match := TABLE.match(line):
            table = match[1]
        if table and (match := BYTES.search(line)):
            numbers = bytes(int(number, 16) for number in match[1].split(","))
            tables[table] = tables.get(table, b"") + numbers
        if kernel is None:
            continue
        if match := LABEL.match(line.strip()):
            waiting.append(match[1])
            continue
        if not (match := LINE.match(line)):
            continue
        address = int(match[1], 16)
        labels.update((label, address) for label in waiting)
        waiting = []
        operands = NOTE.sub("", match[5]).replace(".reuse", "")
        operands = [part.strip() for part in operands.split(",")] if operands else []
        kernel.code.append(Instruction(address, match[3] or "PT", match[2] == "!", match[4], operands))
    link(kernel, labels)
    for name, numbers in tables.items():
        found[name].table = numbers
    return found


def link(kernel, labels):
    """Finds where branches go, and leaves out the endless loop and the padding behind the end."""
    if kernel is None:
        return
    for i in kernel.code:
        if i.operands and i.operands[-1].startswith("`("):
            i.target = labels.get(i.operands[-1][2:-1])
    used = [i for i in kernel.code if not (i.name == "BRA" and i.target == i.address)]
    while used and used[-1].name == "NOP":
        used.pop()
    kernel.code = used
