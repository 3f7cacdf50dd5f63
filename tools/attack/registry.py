"""What an attack is, and the table of all of them."""

import dataclasses
import time
from collections.abc import Callable

OTHER_PEER, SAME_PEER = "127.0.0.2", "127.0.0.1"


@dataclasses.dataclass(frozen=True)
class Attack:
    """One attack. `run` gets a `Target` in a process of its own, or, where `is_check`, the `Bench` itself."""

    name: str
    run: Callable
    about: str
    # How much the server's resident memory may grow beside it, at its peak, MB.
    growth_mb: int = 0
    # Attackers at once, each a process.
    processes: int = 1
    # Where it comes from; the normal client is always at 127.0.0.1.
    sources: tuple[str, ...] = (SAME_PEER,)
    # What the normal client asks for.
    honest: tuple[str, ...] = ("infer", "stats")
    # Sections of the server's configuration, models, and limits of its process.
    options: dict = dataclasses.field(default_factory=dict)
    models: dict | None = None
    limits: dict = dataclasses.field(default_factory=dict)
    # Runs in the folder of the work before the server starts.
    prepare: Callable | None = None
    # Whether the server owes the attacker something (an answer that is still read) for as long as the grace lasts.
    may_use_grace: bool = False
    is_check: bool = False
    # Whether the gRPC port is encrypted.
    tls: bool = False


ATTACKS: dict[str, Attack] = {}


def _register(function, name, **options):
    about = " ".join(function.__doc__.split())
    ATTACKS[name] = Attack(name, function, about, **options)
    return function


def attack(name, **options):
    """Registers a function that attacks a `Target`; its docstring says what it does and why that hurts."""
    return lambda function: _register(function, name, **options)


def check(name):
    """Registers a function that tries something with servers of its own and says to a `Bench` what it found."""
    return lambda function: _register(function, name, is_check=True)


@dataclasses.dataclass
class Target:
    """What an attacker knows: ports, the address that it comes from, and when to stop."""

    port: int
    ops: int
    source: str
    until: float
    folder: str

    def running(self):
        return time.monotonic() < self.until

    def rest(self):
        return max(0.0, self.until - time.monotonic())

    def stop(self):
        self.until = 0.0

    def note(self, text):
        print(f"note {text}", flush=True)

    def fault(self, text):
        """Something that is wrong whatever the normal client sees."""
        print(f"fault {text}", flush=True)
