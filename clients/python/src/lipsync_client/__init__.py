"""Client of lipsync-server: a voice goes in, a face comes out.

Start with `Client`; `Client.session` opens a live session.
"""

from .audio import AudioFormat, PcmAlaw, PcmF32, PcmMulaw, PcmS16, Steps, Windows
from .client import Client
from .cuts import Cut, cuts
from .errors import (
    CallError,
    ChunkTooLargeError,
    EndedWhileSendingError,
    FieldViolation,
    LipsyncError,
    ProtocolError,
    SessionClosedError,
    SessionLostError,
    WindowFullError,
    WrongAudioError,
)
from .events import (
    Batch,
    Cleared,
    Event,
    Frame,
    Opened,
    Rect,
    Resumption,
    SegmentEnd,
    ServerWarning,
)
from .key import InsecureKeyWarning
from .lasting import LastingEvent, LastingSession, Lost, Restored, Resumed, Retry
from .options import Output, OutputFormat, Pacing, Priority
from .session import Session
from .spoken import Unplayed
from .sync import SyncClient, SyncSession
from .talking_head import Failure, HeadItem, Moment, TalkingHead, lost_for_being_idle
from .wav import Wav, WavError, read_wav

__all__ = [
    "AudioFormat",
    "Batch",
    "CallError",
    "ChunkTooLargeError",
    "Cleared",
    "Client",
    "Cut",
    "EndedWhileSendingError",
    "Event",
    "Failure",
    "FieldViolation",
    "Frame",
    "HeadItem",
    "InsecureKeyWarning",
    "LastingEvent",
    "LastingSession",
    "LipsyncError",
    "Lost",
    "Moment",
    "Opened",
    "Output",
    "OutputFormat",
    "Pacing",
    "PcmAlaw",
    "PcmF32",
    "PcmMulaw",
    "PcmS16",
    "Priority",
    "ProtocolError",
    "Rect",
    "Restored",
    "Resumed",
    "Resumption",
    "Retry",
    "SegmentEnd",
    "ServerWarning",
    "Session",
    "SessionClosedError",
    "SessionLostError",
    "Steps",
    "SyncClient",
    "SyncSession",
    "TalkingHead",
    "Unplayed",
    "Wav",
    "WavError",
    "WindowFullError",
    "Windows",
    "WrongAudioError",
    "cuts",
    "lost_for_being_idle",
    "read_wav",
]
