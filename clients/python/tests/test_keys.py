"""Keys: what goes over the wire, and what is said where it could be read on the way."""

import hashlib
import warnings
from pathlib import Path

import grpc
import pytest
from servers import running

from lipsync_client import CallError, Client, InsecureKeyWarning
from lipsync_client.address import is_exposed
from lipsync_client.key import key_metadata

KEY = "a-key-of-the-tests"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:7", False),
        ("localhost", False),
        ("[::1]:7", False),
        ("unix:/run/lipsync", False),
        ("https://faces.example", False),
        ("faces.example", True),
        ("http://10.0.0.1:7", True),
        ("dns:///faces.example:7", True),
    ],
)
def test_where_a_key_can_be_read(address: str, expected: bool) -> None:
    assert is_exposed(address) == expected


def test_what_is_no_key_is_refused_and_not_repeated() -> None:
    assert key_metadata(None) == ()
    assert key_metadata(KEY) == (("authorization", f"Bearer {KEY}"),)
    for wrong in ("", "a secret", "secret\n", "s\u00e9cret"):
        with pytest.raises(ValueError, match="printable ASCII") as refused:
            key_metadata(wrong)
        assert "cret" not in str(refused.value)


async def test_a_key_in_clear_to_another_machine_is_warned_of() -> None:
    with pytest.warns(InsecureKeyWarning, match="faces.example"):
        client = Client("faces.example", api_key=KEY)
    await client.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for client in (Client("localhost", api_key=KEY), Client("faces.example")):
            await client.close()


async def test_a_tenant_is_known_by_its_key(server_binary: Path) -> None:
    settings = {
        "MODELS__MIRA__PRELOAD": "false",
        "TENANTS__ACME__KEYS__MAIN__SHA256": hashlib.sha256(KEY.encode()).hexdigest(),
        "TENANTS__ACME__MODELS": "tomo",
    }
    with running(server_binary, **settings) as (address, _):
        async with Client(address, api_key=KEY) as client:
            await client.wait_until_serving()
            assert [model.model_id for model in await client.list_models()] == ["tomo"]
        for key in (None, "another"):
            async with Client(address, api_key=key) as client:
                with pytest.raises(CallError) as refused:
                    await client.list_models()
                assert refused.value.code is grpc.StatusCode.UNAUTHENTICATED
