"""A pipeline of the service alone, in which a test waits for what comes out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from pipecat.frames.frames import Frame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner
from replies import PARAMS

from lipsync_pipecat import LipsyncVideoService


class Sink(FrameProcessor):
    """Keeps what comes."""

    def __init__(self) -> None:
        super().__init__(enable_direct_mode=True)
        self.frames: list[Frame] = []
        self.bell = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction is FrameDirection.DOWNSTREAM:
            self.frames.append(frame)
            self.bell.set()
        await self.push_frame(frame, direction)


class Conversation:
    def __init__(self, worker: PipelineWorker, sink: Sink) -> None:
        self._worker = worker
        self._sink = sink

    @property
    def frames(self) -> Sequence[Frame]:
        """What came, in order."""
        return self._sink.frames

    async def send(self, *frames: Frame) -> None:
        for frame in frames:
            await self._worker.queue_frame(frame)

    async def until(self, is_it: Callable[[Frame], bool], start: int = 0) -> int:
        """Wait for a frame; return its place."""
        seen = start
        async with asyncio.timeout(120):
            while True:
                while seen < len(self.frames):
                    if is_it(self.frames[seen]):
                        return seen
                    seen += 1
                self._sink.bell.clear()
                await self._sink.bell.wait()


@asynccontextmanager
async def conversation(processor: LipsyncVideoService) -> AsyncIterator[Conversation]:
    sink = Sink()
    worker = PipelineWorker(
        Pipeline([processor, sink]), params=PARAMS, cancel_on_idle_timeout=False
    )
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def _(*_: object) -> None:
        started.set()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    task = asyncio.create_task(runner.run())
    try:
        await asyncio.wait_for(started.wait(), 60)
        yield Conversation(worker, sink)
    finally:
        await worker.cancel()
        await asyncio.gather(task, return_exceptions=True)
