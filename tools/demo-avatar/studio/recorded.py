"""Real recorded speech with known phonemes, for measuring only.

The source package of pocketsphinx on PyPI carries sentences of a LibriVox reading
of "Sense and Sensibility" (public domain) with the times of their phonemes.

    pip download pocketsphinx --no-binary :all: --no-deps && tar xzf pocketsphinx-*.tar.gz
    python measure.py mira --librivox pocketsphinx-*/test/data/librivox
"""
import json
import wave
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from .frontend import SAMPLE_RATE

# The alphabet of its dictionary in IPA, which visemes.classify reads.
IPA = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "aʊ", "AY": "aɪ", "B": "b", "CH": "tʃ", "D": "d", "DH": "ð", "EH": "ɛ",
    "ER": "ɚ", "EY": "eɪ", "F": "f", "G": "g", "HH": "h", "IH": "ɪ", "IY": "i", "JH": "dʒ", "K": "k", "L": "l", "M": "m",
    "N": "n", "NG": "ŋ", "OW": "oʊ", "OY": "ɔɪ", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ", "T": "t", "TH": "θ", "UH": "ʊ",
    "UW": "u", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ",
}


def read(path):
    """A 16-bit WAV as float32 mono at 16 kHz."""
    with wave.open(str(path)) as f:
        audio = np.frombuffer(f.readframes(f.getnframes()), "<i2").reshape(-1, f.getnchannels()).mean(1) / 32768
        return resample_poly(audio, SAMPLE_RATE, f.getframerate()).astype(np.float32)


def sentences(folder):
    """Yields (text, audio, [(start seconds, ipa)]); what is no phoneme is silence."""
    for path in sorted(Path(folder).glob("*.phone.json")):
        alignment = json.loads(path.read_text())
        phones = [p for word in alignment["w"] for p in word["w"]]
        wav = path.with_name(path.name.replace(".phone.json", ".wav"))
        yield alignment["t"], read(wav), [(p["b"], IPA.get(p["t"], "")) for p in phones]
