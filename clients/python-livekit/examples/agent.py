"""A voice agent with a face: LiveKit Agents, its inference gateway, and your lipsync-server.

    pip install ./clients/python ./clients/python-livekit
    export LIVEKIT_URL=... LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=...
    python clients/python-livekit/examples/agent.py dev

LIPSYNC_SERVER is the server's address, LIPSYNC_MODEL its avatar. With LIPSYNC_WORKER, the address
of a `lipsync-livekit-worker`, that process renders the face.
"""

import os

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli, inference
from livekit.agents.voice.room_io import RoomOptions

from lipsync_livekit import AvatarSession, RemoteAvatarSession

SERVER = os.environ.get("LIPSYNC_SERVER", "127.0.0.1:50051")
MODEL = os.environ.get("LIPSYNC_MODEL", "mira")
WORKER = os.environ.get("LIPSYNC_WORKER")

server = AgentServer()


@server.rtc_session()
async def talk(ctx: JobContext) -> None:
    await ctx.connect()
    session: AgentSession[None] = AgentSession(
        stt=inference.STT("deepgram/nova-3"),
        llm=inference.LLM("openai/gpt-4.1-mini"),
        tts=inference.TTS("cartesia/sonic-3"),
        # The avatar acknowledges interruptions; it cannot pause a reply to resume it.
        resume_false_interruption=False,
    )
    avatar = RemoteAvatarSession(WORKER, MODEL) if WORKER else AvatarSession(SERVER, MODEL)
    await avatar.start(session, room=ctx.room)
    await session.start(
        agent=Agent(instructions="You are Mira. Answer in one or two short sentences."),
        room=ctx.room,
        # The avatar publishes the voice, together with the picture.
        room_options=RoomOptions(audio_output=False),
    )
    session.generate_reply(instructions="Greet the user.")


if __name__ == "__main__":
    cli.run_app(server)
