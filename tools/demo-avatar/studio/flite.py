"""A second synthesiser: flite, whose voices are built from recordings of people.

Command line only; it prints every phoneme with the time at which it ends. Three
voices are for training, one ("slt") is never heard in training.
"""
import subprocess
import tempfile
import wave

import numpy as np

from .recorded import IPA

TRAIN_VOICES = ("rms", "awb", "kal16")
HELD_OUT_VOICE = "slt"

_IPA = {**IPA, "AX": "ə", "AXR": "ɚ", "PAU": ""}


def speak(text, voice, stretch=1.0, pitch=None):
    """-> (float32 mono 16 kHz, [(seconds, ipa)])."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as out:
        features = ["--setf", f"duration_stretch={stretch:.3f}"]
        if pitch:
            features += ["--setf", f"int_f0_target_mean={pitch:.1f}"]
        command = ["flite", "-voice", voice, *features, "-psdur", "-t", text, "-o", out.name]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        with wave.open(out.name) as f:
            if f.getframerate() != 16000:
                raise ValueError(f"{voice} speaks at {f.getframerate()} Hz")
            audio = np.frombuffer(f.readframes(f.getnframes()), "<i2").astype(np.float32) / 32768
    phonemes, start = [], 0.0
    for token in printed.split():
        phone, end = token.rsplit(":", 1)
        phonemes.append((start, _IPA[phone.upper()]))
        start = float(end)
    return audio, phonemes
