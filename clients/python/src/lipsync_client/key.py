"""The key with which a client is known to the server."""


class InsecureKeyWarning(UserWarning):
    """A key is sent without TLS to another machine: anybody on the way can read it."""


def key_metadata(key: str | None) -> tuple[tuple[str, str], ...]:
    """Return what goes with every request.

    Raises `ValueError` for what is no key; the text does not repeat it.
    """
    if key is None:
        return ()
    if not key or not all("!" <= letter <= "~" for letter in key):
        raise ValueError("the API key is empty, or has characters other than printable ASCII")
    return (("authorization", f"Bearer {key}"),)
