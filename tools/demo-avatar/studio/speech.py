"""The sample WAVs and the held-out WAVs with their truth."""
import json
import wave

import numpy as np

from . import probe
from .corpus import pad_silence, truth
from .espeak import Espeak
from .frontend import SAMPLE_RATE
from .paths import SPEECH
from .texts import HELD_OUT_SENTENCES

# file name: (sentence, voice, words per minute, pitch); none was trained on.
SAMPLES = {
    "welcome": (0, "en-us+f4", 150, 55),
    "umbrella": (1, "en-us+Annie", 150, 50),
    "lips": (7, "en-gb-x-rp+f4", 155, 60),
}
HELD_OUT = {
    "balloon": (8, "en-us+f4", 150, 50),
    "fountain": (2, "en-gb-x-rp+travis", 145, 45),
    "weather": (11, "en-us+Andrea", 155, 55),
}


def save(path, audio):
    peak = np.abs(audio).max()
    pcm = np.clip(np.round(audio * (0.7 / peak) * 32767), -32768, 32767).astype("<i2")
    with wave.open(str(path), "wb") as w:
        w.setnchannels(1), w.setsampwidth(2), w.setframerate(SAMPLE_RATE)
        w.writeframes(pcm.tobytes())


def main():
    speaker = Espeak()
    (SPEECH / "heldout").mkdir(parents=True, exist_ok=True)
    for folder, table in ((SPEECH, SAMPLES), (SPEECH / "heldout", HELD_OUT)):
        for name, (k, voice, rate, pitch) in table.items():
            audio, ph = speaker.speak(HELD_OUT_SENTENCES[k], voice, rate, pitch)
            audio, ph = pad_silence(audio, ph, 0.25, 0.3)
            save(folder / f"{name}.wav", audio)
            line = f"{folder.name}/{name}.wav {len(audio) / SAMPLE_RATE:.2f} s"
            if table is HELD_OUT:
                opening = truth(ph, len(audio))[:, 0]
                (folder / f"{name}.opening.json").write_text(json.dumps([round(float(v), 3) for v in opening]) + "\n")
                line += f", {len(opening)} frames"
            print(line, "-", HELD_OUT_SENTENCES[k], f"({voice})")
    probe.write(SPEECH / "heldout" / "opening_probe.json")


if __name__ == "__main__":
    main()
