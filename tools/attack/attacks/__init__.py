"""The attacks, one module for each family."""

import importlib

FAMILIES = (
    "uploads",
    "text",
    "decode",
    "readers",
    "frames",
    "websockets",
    "connections",
    "sessions",
    "loads",
    "outputs",
    "folders",
    "doors",
    "hammers",
)


def load():
    """Fills the registry."""
    for family in FAMILIES:
        importlib.import_module(f"attacks.{family}")
