"""A client that dies in the middle of a sentence: crash.py ADDRESS CA KEY. It kills itself."""

import asyncio
import os
import signal
import sys

from lipsync_client import Client, Pacing


async def main(address, ca, key):
    client = Client(f"https://{address}", ca=ca, api_key=key)
    async with client.session("mira", pacing=Pacing.REALTIME, idle_frames=True) as session:
        await session.push_audio(bytes(64_000))
        for _ in range(5):
            await anext(session)
        os.kill(os.getpid(), signal.SIGKILL)


asyncio.run(main(*sys.argv[1:]))
