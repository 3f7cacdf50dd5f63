"""espeak-ng through its C library: speech and exact phoneme times.

The events carry the sample position of every phoneme; the command-line tool
does not print them.
"""
import ctypes as C

import numpy as np
from scipy.signal import resample_poly

_SYNCHRONOUS = 2
_PHONEME_EVENTS_IPA = 3
_EVENT_PHONEME = 7
_RATE, _PITCH, _RANGE = 1, 3, 4


class _Id(C.Union):
    _fields_ = [("number", C.c_int), ("name", C.c_char_p), ("string", C.c_char * 8)]


class _Event(C.Structure):
    _fields_ = [("type", C.c_int), ("uid", C.c_uint), ("text_position", C.c_int), ("length", C.c_int),
                ("audio_position", C.c_int), ("sample", C.c_int), ("user_data", C.c_void_p), ("id", _Id)]


_CALLBACK = C.CFUNCTYPE(C.c_int, C.POINTER(C.c_short), C.c_int, C.POINTER(_Event))


class Espeak:
    """One per process; the library keeps global state."""

    def __init__(self):
        self._lib = C.CDLL("libespeak-ng.so.1")
        self.native_rate = self._lib.espeak_Initialize(_SYNCHRONOUS, 500, None, _PHONEME_EVENTS_IPA)
        if self.native_rate <= 0:
            raise RuntimeError("espeak-ng did not start")
        self._chunks, self._events = [], []
        self._callback = _CALLBACK(self._on_audio)  # kept: C holds only the pointer
        self._lib.espeak_SetSynthCallback(self._callback)

    def _on_audio(self, wav, count, events):
        if wav and count > 0:
            self._chunks.append(np.ctypeslib.as_array(wav, (count,)).copy())
        i = 0
        while events[i].type:
            if events[i].type == _EVENT_PHONEME:
                self._events.append((events[i].sample, bytes(events[i].id.string).split(b"\0")[0]))
            i += 1
        return 0

    def speak(self, text, voice, rate=165, pitch=50, pitch_range=50):
        """-> (float32 mono 16 kHz, [(seconds, ipa)])."""
        self._chunks.clear()
        self._events.clear()
        if self._lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"no voice {voice}")
        for key, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._lib.espeak_SetParameter(key, int(value), 0)
        raw = text.encode()
        self._lib.espeak_Synth(raw, C.c_size_t(len(raw) + 1), C.c_uint(0), 1, C.c_uint(0), C.c_uint(1), None, None)
        if not self._chunks:
            return np.zeros(0, np.float32), []
        pcm = np.concatenate(self._chunks).astype(np.float32) / 32768.0
        audio = resample_poly(pcm, 320, 441).astype(np.float32)
        phonemes = [(s / self.native_rate, ipa.decode("utf-8", "ignore")) for s, ipa in self._events]
        return audio, phonemes
