"""Client of lipsync-server: a voice goes in, a face comes out.

Start with `Client`; `Client.session` opens a live session.
"""

from .audio import AudioFormat, PcmAlaw, PcmF32, PcmMulaw, PcmS16, Steps, Windows
from .client import Client
from .cuts import Cut, cuts
from .errors import (
    CallError,
    EndedWhileSendingError,
    FieldViolation,
    LipsyncError,
    ProtocolError,
    SessionClosedError,
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
    SegmentEnd,
    ServerWarning,
)
from .key import InsecureKeyWarning
from .options import Output, OutputFormat, Pacing, Priority
from .session import Session
from .wav import Wav, WavError, read_wav

__all__ = [
    "AudioFormat",
    "Batch",
    "CallError",
    "Cleared",
    "Client",
    "Cut",
    "EndedWhileSendingError",
    "Event",
    "FieldViolation",
    "Frame",
    "InsecureKeyWarning",
    "LipsyncError",
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
    "SegmentEnd",
    "ServerWarning",
    "Session",
    "SessionClosedError",
    "Steps",
    "Wav",
    "WavError",
    "WindowFullError",
    "Windows",
    "WrongAudioError",
    "cuts",
    "read_wav",
]
