"""`AvatarSession` in local mode: the agent's own process renders its face."""

from typing import Any

from lipsync_client import Client, OutputFormat, Retry
from livekit import rtc
from livekit.agents import AgentSession
from livekit.agents.voice.avatar import (
    AvatarRunner,
    QueueAudioOutput,
)
from livekit.agents.voice.avatar import (
    AvatarSession as BaseAvatarSession,
)

from .generator import FaceGenerator

PROVIDER = "lipsync-server"
"""How metrics name it."""


class AvatarSession(BaseAvatarSession[str]):
    """The face of an agent, published by the agent itself.

    ```python
    avatar = AvatarSession("127.0.0.1:50051", "mira")
    await avatar.start(session, room=ctx.room)
    await session.start(agent, room=ctx.room, room_options=RoomOptions(audio_output=False))
    ```

    The agent needs no second participant, no token and no dispatcher. Turn the room's own audio
    output off, as above: the avatar publishes the voice together with the picture.
    """

    def __init__(
        self,
        server: str,
        model: str,
        *,
        sample_rate: int = 24_000,
        format: OutputFormat = OutputFormat.I420_LIMITED_BT601,  # noqa: A002
        retry: Retry | None = None,
        **connection: Any,
    ) -> None:
        """Prepare it; `start` connects.

        `server` is an address (`host:port`, `https://host:port`), `model` one of its avatars.
        `sample_rate` is that of the published voice, Hz; LiveKit converts the text-to-speech to it.
        `format` is how pictures come from the server (`pictures.FORMATS`). `retry` says when a lost
        server is tried again. What `Client` takes beside the address may follow: `ca`, `metadata`
        and so on.
        """
        super().__init__()
        self._server = server
        self._model = model
        self._rate_hz = sample_rate
        self._format = format
        self._retry = retry
        self._connection = connection
        self._identity = ""
        self._client: Client | None = None
        self._generator: FaceGenerator | None = None
        self._runner: AvatarRunner | None = None

    @property
    def avatar_identity(self) -> str:
        """The agent's own identity."""
        return self._identity

    @property
    def provider(self) -> str:
        """The provider that metrics name."""
        return PROVIDER

    async def start(self, agent_session: AgentSession[Any], room: rtc.Room) -> None:
        """Connect to the server, and become the end of the agent's audio output.

        Raises `CallError` if the server cannot be reached or does not have the model. Then nothing
        was changed. The job's shutdown calls `aclose`.
        """
        if self._runner is not None:
            raise RuntimeError("the avatar was started before")
        self._identity = room.local_participant.identity
        self._client = Client(self._server, **self._connection)
        self._generator = FaceGenerator(
            self._client,
            self._model,
            sample_rate=self._rate_hz,
            format=self._format,
            retry=self._retry,
        )
        try:
            options = await self._generator.start()
            audio = QueueAudioOutput(sample_rate=self._rate_hz, wait_playback_start=True)
            self._runner = AvatarRunner(
                room, audio_recv=audio, video_gen=self._generator, options=options
            )
            await self._runner.start()
            await super().start(agent_session, room)
        except BaseException:
            await self._release()
            raise
        agent_session.output.replace_audio_tail(audio)

    async def aclose(self) -> None:
        """Stop rendering. The agent stays in its room. Twice is no error."""
        await self._release()
        if self._room is not None:
            # The base class would throw its avatar out of the room: here that is the agent.
            self._room.off("connection_state_changed", self._on_connection_state_changed)
            self._room = None
        await super().aclose()

    async def _release(self) -> None:
        runner, self._runner = self._runner, None
        generator, self._generator = self._generator, None
        client, self._client = self._client, None
        # The generator first: it ends whatever the runner waits for.
        if generator is not None:
            await generator.aclose()
        if runner is not None:
            await runner.aclose()
        if client is not None:
            await client.close()
