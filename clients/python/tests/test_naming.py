"""Calls name their model, so that a proxy can choose the server that has it in memory."""

import pytest

from lipsync_client import Client


@pytest.mark.parametrize(
    ("metadata", "model_id", "named"),
    [
        (None, "mira", (("x-model-id", "mira"),)),
        ({"x-tenant": "a"}, "mira", (("x-tenant", "a"), ("x-model-id", "mira"))),
        # What the program wrote itself stays.
        ({"x-model-id": "home"}, "mira", (("x-model-id", "home"),)),
        # No header can carry these; the server refuses them by their field.
        (None, "mirá", ()),
        (None, "mi\nra", ()),
    ],
)
async def test_calls_name_their_model(
    metadata: dict[str, str] | None, model_id: str, named: tuple[tuple[str, str], ...]
) -> None:
    async with Client("127.0.0.1:1", metadata=metadata) as client:
        assert client._naming(model_id) == named
