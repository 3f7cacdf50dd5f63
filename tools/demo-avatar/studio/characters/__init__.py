"""Who can be drawn. A character is colours, proportions and a few drawing functions."""
from importlib import import_module

NAMES = ("mira", "tomo")


def by_name(name):
    if name not in NAMES:
        raise SystemExit(f"unknown character {name!r}, expected one of {', '.join(NAMES)}")
    return import_module(f"{__name__}.{name}").CHARACTER
