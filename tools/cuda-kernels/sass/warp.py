"""Runs a warp's instructions as far as they decide which ones come next.

Every lane has integers, predicates and the few floats that integer divisions need. What memory holds decides
nothing in these kernels except whether a table has an address, so every load gives the same number. The lanes with the
lowest address go first, which joins those that went apart as soon as the hardware may.
"""

import numpy as np

np.seterr(all="ignore")

LANES = 32
# What memory holds: in fp16, ones.
LOADED = 0x3C003C00
# What a warp may issue, before it counts as caught in a loop.
MOST = 2_000_000
# These leave no integer that decides anything.
IGNORED = {
    "BAR", "BSSY", "BSYNC", "DEPBAR", "F2FP", "HMMA", "HMNMX2", "LDGDEPBAR", "LDGSTS", "NOP", "ST",
    "STG", "STS", "UBLKCP", "WARPSYNC", "CALL", "HADD2", "HMUL2", "HSETP2", "HSET2", "CCTL", "MEMBAR", "ERRBAR",
    "FSWZADD", "YIELD", "ELECT", "ACQBULK", "PREEXIT",
}
COMPARE = {
    "EQ": np.equal, "NE": np.not_equal, "LT": np.less, "LE": np.less_equal, "GT": np.greater,
    "GE": np.greater_equal,
}
U32, U64, I64 = np.uint32, np.uint64, np.int64


class Warp:
    """A warp of a block, told the constants that it reads."""

    def __init__(self, kernel, constants, block, warp, block_size):
        self.kernel, self.constants = kernel, constants
        self.index = {i.address: at for at, i in enumerate(kernel.code)}
        self.special = {
            "SR_TID.X": np.arange(LANES, dtype=U32) + U32(warp * LANES),
            "SR_CTAID.X": np.full(LANES, block, U32),
            "SR_LANEID": np.arange(LANES, dtype=U32),
        }
        live = self.special["SR_TID.X"] < block_size
        self.registers, self.predicates = {}, {}
        self.at = np.where(live, 0, -1)
        self.counts = np.zeros(len(kernel.code), np.int64)

    # Operands.

    def constant(self, offset):
        return int.from_bytes(self.constants.get(offset, b"\0\0\0\0"), "little")

    def number(self, text, high=0):
        """A 32-bit operand; its second half, where `high` is 1."""
        if text.startswith(("-", "~")) and not text[1:2].isdigit() and text[1:4] not in ("INF", "QNA"):
            value = self.number(text[1:], high)
            return (~value if text[0] == "~" else (U32(0) - value)).astype(U32)
        if text.startswith("|"):
            return self.number(text.strip("|"), high)
        name = text.split(".")[0]
        if name in ("RZ", "URZ", "SRZ"):
            return np.zeros(LANES, U32)
        if name[0] in "RU" and name.lstrip("UR").isdigit():
            if high:
                name = name.rstrip("0123456789") + str(int(name.lstrip("UR")) + high)
            return self.registers.get(name, np.zeros(LANES, U32))
        if text.startswith("c["):
            bank, inside = (part.rstrip("]") for part in text.split("[")[1:])
            if inside.startswith("R"):
                return self.looked_up(bank, inside)
            return np.full(LANES, self.constant(int(inside, 16) + 4 * high), U32)
        if "INF" in text or "QNAN" in text:
            return np.full(LANES, 0x7F800000, U32)
        if "." in text or "e" in text and not text.lower().lstrip("-").startswith("0x"):
            return np.full(LANES, float(text), np.float32).view(U32)
        return np.full(LANES, int(text, 0) & 0xFFFFFFFF, U32)

    def looked_up(self, bank, inside):
        """A constant at a place that every lane has computed."""
        register, _, offset = inside.partition("+")
        places = self.number(register) + U32(int(offset or "0", 0))
        if bank == "0x0":
            return np.array([self.constant(int(place)) for place in places], U32)
        table = np.frombuffer(self.kernel.table, U32)
        return table[np.minimum(places // 4, len(table) - 1)]

    def real(self, text):
        """An operand as a float."""
        if text.startswith(("-", "|")) and "R" in text:
            inner = self.real(text.lstrip("-").strip("|"))
            inner = np.abs(inner) if "|" in text else inner
            return -inner if text[0] == "-" else inner
        if text.lstrip("-").isdigit():
            return np.full(LANES, float(text), np.float32)
        return self.number(text).view(np.float32)

    def predicate(self, text):
        is_not, name = text.startswith("!"), text.lstrip("!")
        value = self.predicates.get(name, np.ones(LANES, bool) if name in ("PT", "UPT") else np.zeros(LANES, bool))
        return ~value if is_not else value

    def wide(self, text):
        return self.number(text).astype(U64) | self.number(text, 1).astype(U64) << U64(32)

    # Results.

    def write(self, name, value, mask):
        if name in ("RZ", "URZ"):
            return
        old = self.registers.get(name)
        value = np.asarray(value).astype(U32)
        self.registers[name] = value if old is None or mask.all() else np.where(mask, value, old)

    def write_wide(self, name, value, mask):
        prefix, number = name.rstrip("0123456789"), name.lstrip("UR")
        self.write(name, value & U64(0xFFFFFFFF), mask)
        if number.isdigit():
            self.write(f"{prefix}{int(number) + 1}", value >> U64(32), mask)

    def write_predicate(self, name, value, mask):
        if name not in ("PT", "UPT"):
            self.predicates[name] = np.where(mask, value, self.predicate(name))

    # Running.

    def run(self):
        """How often each instruction was issued."""
        issued = 0
        while (alive := self.at >= 0).any():
            address = self.at[alive].min()
            lanes = self.at == address
            at = self.index[int(address)]
            i = self.kernel.code[at]
            self.counts[at] += 1
            issued += 1
            if issued > MOST:
                raise RuntimeError(f"{self.kernel.name}: caught in a loop at {address:#x}")
            following = self.kernel.code[at + 1].address if at + 1 < len(self.kernel.code) else -1
            self.at[lanes] = following
            guard = self.predicate(i.guard)
            mask = lanes & (~guard if i.guard_is_not else guard)
            if mask.any():
                self.execute(i, mask)
        return self.counts

    def execute(self, i, mask):
        kind, *marks = i.name.split(".")
        if kind == "BRA":
            # A predicate may stand among the operands, too.
            for text in i.operands[:-1]:
                mask = mask & self.predicate(text)
            self.at[mask] = i.target
        elif kind == "BRX":
            register, step = i.operands[0].split()
            to = self.number(register).astype(I64) + i.address + 16 + int(step, 0)
            self.at[mask] = to[mask]
        elif kind == "EXIT":
            self.at[mask] = -1
        elif kind not in IGNORED:
            plain = kind[1:] if kind in UNIFORM else kind
            work = getattr(self, plain.lower(), None)
            if work is None:
                raise RuntimeError(f"{self.kernel.name}: {i.name} at {i.address:#x} is not known")
            work(i.operands, marks, mask)

    def split(self, operands):
        """Results that are predicates behind the first result, and the other operands."""
        rest = operands[1:]
        carries = []
        while rest and rest[0].lstrip("U")[0] == "P" and rest[0].lstrip("UP")[:1] in tuple("0123456789T"):
            carries.append(rest.pop(0))
        return operands[0], carries, rest

    # Moves.

    def mov(self, operands, marks, mask):
        self.write(operands[0], self.number(operands[1]), mask)

    def s2r(self, operands, marks, mask):
        self.write(operands[0], self.special.get(operands[1], np.zeros(LANES, U32)), mask)

    def cs2r(self, operands, marks, mask):
        self.write_wide(operands[0], np.zeros(LANES, U64), mask)

    def ldc(self, operands, marks, mask):
        if "64" in marks:
            self.write_wide(operands[0], self.wide(operands[1]), mask)
        else:
            self.write(operands[0], self.number(operands[1]), mask)

    def load(self, operands, marks, mask):
        n = {"64": 2, "128": 4}.get(next((m for m in marks if m in ("64", "128")), ""), 1)
        number = int(operands[0].lstrip("R")) if operands[0] != "RZ" else None
        for word in range(n if number is not None else 0):
            self.write(f"R{number + word}", np.full(LANES, LOADED, U32), mask)

    ldg = lds = ld = load

    # What is spilled: its place is written the same way wherever it is read.

    def stl(self, operands, marks, mask):
        self.write(operands[0], self.number(operands[1]), mask)

    def ldl(self, operands, marks, mask):
        self.write(operands[0], self.registers.get(operands[1], np.zeros(LANES, U32)), mask)

    def ldsm(self, operands, marks, mask):
        pass

    def r2ur(self, operands, marks, mask):
        lane = int(np.argmax(mask))
        self.write(operands[0], np.full(LANES, self.number(operands[1])[lane], U32), np.ones(LANES, bool))

    def sel(self, operands, marks, mask):
        to, a, b, which = operands
        self.write(to, np.where(self.predicate(which), self.number(a), self.number(b)), mask)

    def shfl(self, operands, marks, mask):
        self.write(operands[1], np.full(LANES, LOADED, U32), mask)

    def vote(self, operands, marks, mask):
        value = self.predicate(operands[-1])[mask]
        result = np.full(LANES, value.all() if "ALL" in marks else value.any())
        for to in operands[:-1]:
            if to.lstrip("U").startswith("P"):
                self.write_predicate(to, result, np.ones(LANES, bool))

    voteu = vote

    # Integers.

    def iadd3(self, operands, marks, mask):
        to, carries, rest = self.split(operands)
        values = rest[:3]
        total = sum(self.number(text).astype(U64) for text in values)
        if "X" in marks:
            total = total + sum(self.predicate(text).astype(U64) for text in rest[3:])
        self.write(to, total & U64(0xFFFFFFFF), mask)
        for carry in carries[:1]:
            self.write_predicate(carry, total >> U64(32) != 0, mask)

    def viadd(self, operands, marks, mask):
        self.write(operands[0], self.number(operands[1]) + self.number(operands[2]), mask)

    def imad(self, operands, marks, mask):
        to, carries, (a, b, c, *carry) = self.split(operands)
        is_wide, is_high = "WIDE" in marks, "HI" in marks
        kind = U64 if "U32" in marks else I64
        as_kind = (lambda x: x.astype(U64)) if kind is U64 else (lambda x: x.view(np.int32).astype(I64))
        product = (as_kind(self.number(a)) * as_kind(self.number(b))).astype(U64)
        if is_wide or is_high:
            result = product + self.wide(c)
            if carries:
                self.write_predicate(carries[0], result < product, mask)
            if is_high:
                self.write(to, result >> U64(32), mask)
            else:
                self.write_wide(to, result, mask)
            return
        result = product + self.number(c).astype(U64)
        for text in carry:
            result = result + self.predicate(text).astype(U64)
        self.write(to, result & U64(0xFFFFFFFF), mask)

    def lea(self, operands, marks, mask):
        to, carries, rest = self.split(operands)
        a, shift = self.number(rest[0]).astype(U64), None
        if "HI" not in marks:
            b, shift = self.number(rest[1]).astype(U64), int(rest[2], 0)
            total = (a << U64(shift) & U64(0xFFFFFFFF)) + b
        else:
            b = self.number(rest[1]).astype(U64)
            if "SX32" in marks:
                a = a.astype(U32).view(np.int32).astype(I64).astype(U64)
                rest = rest[2:]
            else:
                a = a | self.number(rest[2]).astype(U64) << U64(32)
                rest = rest[3:]
            total = ((a << U64(int(rest[0], 0))) >> U64(32)) + b
            for text in rest[1:] if "X" in marks else []:
                total = total + self.predicate(text).astype(U64)
        self.write(to, total & U64(0xFFFFFFFF), mask)
        for carry in carries[:1]:
            self.write_predicate(carry, total >> U64(32) != 0, mask)

    def shf(self, operands, marks, mask):
        to, low, by, high = operands
        by = self.number(by).astype(U64)
        low, high = self.number(low), self.number(high)
        both = low.astype(U64) | high.astype(U64) << U64(32)
        if marks[0] == "L":
            both = both << np.minimum(by, U64(63))
            result = both >> U64(32) if "HI" in marks else both
        elif "HI" in marks:
            by = np.minimum(by, U64(31) if "S32" in marks else U64(32))
            result = (high.view(np.int32) >> by.astype(np.int32)) if "S32" in marks else high.astype(U64) >> by
        else:
            result = both >> by
        self.write(to, np.asarray(result).astype(I64).astype(U64) & U64(0xFFFFFFFF), mask)

    def lop3(self, operands, marks, mask):
        predicate = operands[0] if operands[0].lstrip("U").startswith("P") else None
        to, a, b, c, table, *_ = operands[1:] if predicate else operands
        a, b, c = (self.number(text) for text in (a, b, c))
        result = np.zeros(LANES, U32)
        for row in range(8):
            if int(table, 0) >> row & 1:
                result |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
        self.write(to, result, mask)
        if predicate:
            self.write_predicate(predicate, result != 0, mask)

    def plop3(self, operands, marks, mask):
        a, b, c = (self.predicate(text).astype(int) for text in operands[2:5])
        row = a * 4 + b * 2 + c
        for to, table in zip(operands[:2], operands[5:7]):
            self.write_predicate(to, (int(table, 0) >> row & 1).astype(bool), mask)

    def p2r(self, operands, marks, mask):
        """Predicates as bits of a byte."""
        to, _, base, which = operands
        which, shift = int(which, 0), self.byte(marks)
        bits = sum(self.predicate(f"P{at}").astype(U32) << U32(at) for at in range(7))
        kept = self.number(base) & U32(~(which << shift) & 0xFFFFFFFF)
        self.write(to, kept | (bits & U32(which)) << U32(shift), mask)

    def r2p(self, operands, marks, mask):
        _, bits, which = operands
        bits = self.number(bits) >> U32(self.byte(marks))
        for at in range(7):
            if int(which, 0) >> at & 1:
                self.write_predicate(f"P{at}", (bits >> U32(at) & U32(1)) != 0, mask)

    @staticmethod
    def byte(marks):
        """How many bits are below the byte that is meant."""
        return 8 * next((int(mark[1:]) for mark in marks if mark in ("B1", "B2", "B3")), 0)

    def prmt(self, operands, marks, mask):
        to, a, how, b = operands
        both = self.number(a).astype(U64) | self.number(b).astype(U64) << U64(32)
        how, result = self.number(how).astype(U64), np.zeros(LANES, U64)
        for byte in range(4):
            which = how >> U64(4 * byte) & U64(7)
            result |= (both >> (which * U64(8)) & U64(0xFF)) << U64(8 * byte)
        self.write(to, result, mask)

    def isetp(self, operands, marks, mask):
        to, other, a, b, joined, *low = operands
        view = (lambda x: x) if "U32" in marks else (lambda x: x.view(np.int32))
        a, b = view(self.number(a)), view(self.number(b))
        found = COMPARE[marks[0]](a, b)
        if "EX" in marks:
            of_low = self.predicate(low[0])
            found = found | of_low if marks[0] == "NE" else COMPARE[marks[0]](a, b) & (a != b) | (a == b) & of_low
        self.join([to, other], found, (joined, marks), mask)

    def join(self, to, found, how, mask):
        joined, marks = how
        with_other = self.predicate(joined)
        join = np.logical_or if "OR" in marks else np.logical_xor if "XOR" in marks else np.logical_and
        self.write_predicate(to[0], join(found, with_other), mask)
        if to[1] not in ("PT", "UPT"):
            self.write_predicate(to[1], join(~found, with_other), mask)

    def vimnmx(self, operands, marks, mask):
        to, a, b, least = operands
        view = (lambda x: x) if "U32" in marks else (lambda x: x.view(np.int32))
        a, b = view(self.number(a)), view(self.number(b))
        result = np.where(self.predicate(least), np.minimum(a, b), np.maximum(a, b))
        self.write(to, result.astype(I64).astype(U64) & U64(0xFFFFFFFF), mask)

    imnmx = vimnmx

    def viaddmnmx(self, operands, marks, mask):
        to, a, b, c, least = operands
        view = (lambda x: x) if "U32" in marks else (lambda x: x.view(np.int32))
        total, c = view(self.number(a) + self.number(b)), view(self.number(c))
        result = np.where(self.predicate(least), np.minimum(total, c), np.maximum(total, c))
        self.write(to, result.astype(I64).astype(U64) & U64(0xFFFFFFFF), mask)

    # Floats, as far as divisions of integers need them.

    def write_real(self, to, value, mask):
        self.write(to, np.asarray(value, np.float32).view(U32), mask)

    def i2f(self, operands, marks, mask):
        number = self.number(operands[1])
        value = number.astype(np.float32)
        if "RP" in marks:
            value = np.where(value.astype(np.float64) < number, np.nextafter(value, np.float32(np.inf)), value)
        self.write_real(operands[0], value, mask)

    i2fp = i2f

    def f2i(self, operands, marks, mask):
        value = np.nan_to_num(self.real(operands[1]), posinf=0, neginf=0)
        self.write(operands[0], np.clip(value, 0, 2**32 - 1).astype(U64), mask)

    def mufu(self, operands, marks, mask):
        value = self.real(operands[1])
        work = {"RCP": lambda x: np.float32(1) / x, "EX2": np.exp2, "RSQ": lambda x: 1 / np.sqrt(np.abs(x))}
        self.write_real(operands[0], work[marks[0]](value), mask)

    def fchk(self, operands, marks, mask):
        self.write_predicate(operands[0], np.zeros(LANES, bool), mask)

    def fadd(self, operands, marks, mask):
        self.write_real(operands[0], self.real(operands[1]) + self.real(operands[2]), mask)

    def fmul(self, operands, marks, mask):
        self.write_real(operands[0], self.real(operands[1]) * self.real(operands[2]), mask)

    def ffma(self, operands, marks, mask):
        a, b, c = (self.real(text) for text in operands[1:4])
        self.write_real(operands[0], a * b + c, mask)

    def fmnmx(self, operands, marks, mask):
        to, a, b, least = operands
        a, b = self.real(a), self.real(b)
        self.write_real(to, np.where(self.predicate(least), np.minimum(a, b), np.maximum(a, b)), mask)

    def fsetp(self, operands, marks, mask):
        to, other, a, b, joined = operands[:5]
        found = COMPARE[marks[0][:2]](self.real(a), self.real(b))
        self.join([to, other], found, (joined, marks), mask)

    fsel = sel

    def hfma2(self, operands, marks, mask):
        """The compiler writes constants so, as two halves; products decide nothing."""
        to, a, b, *halves = operands
        if (a, b) != ("-RZ", "RZ") or len(halves) != 2 or "R" in "".join(halves):
            return
        high, low = (int(np.float16(half).view(np.uint16)) for half in halves)
        self.write(to, np.full(LANES, high << 16 | low, U32), mask)


UNIFORM = {
    "UIADD3", "UIMAD", "UISETP", "UFSETP", "ULDC", "ULEA", "ULOP3", "UMOV", "USEL", "USHF", "UPLOP3", "UVIADD", "UVIMNMX",
    "UPRMT", "UIMNMX",
}
Warp.s2ur = Warp.s2r
Warp.ucs2r = Warp.cs2r
