"""Writes the expected values that the tests of crates/audio compare against.

An implementation independent of the Rust one: librosa's STFT and mel filter bank, SciPy's filter,
torchaudio's Kaldi filter banks (checked against kaldi-native-fbank), and CPython's audioop (before 3.13;
afterwards the package audioop-lts).

    python -m venv .venv && .venv/bin/pip install -r requirements.txt
    .venv/bin/python make_goldens.py ../../crates/audio/tests/golden
"""

import audioop
import sys
from pathlib import Path

import kaldi_native_fbank
import librosa
import numpy as np
import scipy.signal
import torch
import torchaudio.compliance.kaldi as kaldi

RATE_HZ = 16_000
# Of the filter banks, every so many values are kept.
FBANK_STEP = 13


def test_signal(n_samples: int) -> np.ndarray:
    """A gliding saw, noise bursts and digital silence in s16, by integer arithmetic alone."""
    samples = np.zeros(n_samples, np.int16)
    phase, increment, noise = 0, 20_000_000, 1
    for n in range(n_samples):
        increment += 4_000
        phase = (phase + increment) % 2**32
        noise = (noise * 1_664_525 + 1_013_904_223) % 2**32
        saw = phase // 2**16 - 32_768
        hiss = noise // 2**16 - 32_768
        part = n // 2_000 % 4
        # Floor division, as an arithmetic shift.
        samples[n] = [saw // 4, saw // 8 + hiss // 16, hiss // 64, 0][part]
    return samples


def mel_rows(samples: np.ndarray) -> np.ndarray:
    """[T, 80] f64 of s16 samples at 16 kHz."""
    x = samples.astype(np.float64) / 32_768.0
    y = scipy.signal.lfilter([1.0, -0.97], [1.0], x)
    spectrum = librosa.stft(
        y, n_fft=800, hop_length=200, win_length=800, window="hann", center=True,
        pad_mode="constant", dtype=np.complex128,
    )
    bank = librosa.filters.mel(
        sr=RATE_HZ, n_fft=800, n_mels=80, fmin=55.0, fmax=7_600.0, htk=False, norm="slaney",
        dtype=np.float64,
    )
    level_db = 20.0 * np.log10(np.maximum(1e-5, bank @ np.abs(spectrum))) - 20.0
    return np.clip(8.0 * (level_db + 100.0) / 100.0 - 4.0, -4.0, 4.0).T


def filter_banks(samples: np.ndarray) -> np.ndarray:
    """[T, 80] f64 of s16 samples at 16 kHz, as the training scripts of wenet avatars make them."""
    scaled = (samples.astype(np.float32) / 32_768.0 * 32_767).astype(np.int16)
    padded = np.concatenate([np.zeros(32 * 160), scaled, np.zeros(35 * 160)])
    rows = kaldi.fbank(
        torch.from_numpy(padded).unsqueeze(0), num_mel_bins=80, frame_length=25, frame_shift=10,
        dither=0.0, energy_floor=0.0, sample_frequency=RATE_HZ,
    ).numpy()
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = 80
    other = kaldi_native_fbank.OnlineFbank(options)
    other.accept_waveform(RATE_HZ, padded.tolist())
    other.input_finished()
    assert other.num_frames_ready == len(rows)
    difference = max(np.abs(other.get_frame(i) - row).max() for i, row in enumerate(rows))
    print(f"filter banks of torchaudio and kaldi-native-fbank are at most {difference:.6f} apart")
    assert difference < 1e-3
    return rows


def main() -> None:
    out = Path(sys.argv[1])
    # 3,000 is the shortest clip with 16 rows; the other length is no multiple of the hop.
    for n_samples in (3_000, 20_777):
        rows = mel_rows(test_signal(n_samples))
        assert rows.shape == (1 + n_samples // 200, 80)
        rows.astype("<f4").tofile(out / f"mel_{n_samples}.f32")
    rows = filter_banks(test_signal(20_777))
    assert rows.shape == (1 + (20_777 + 67 * 160 - 400) // 160, 80)
    rows.reshape(-1)[::FBANK_STEP].astype("<f4").tofile(out / "fbank_20777.f32")
    codes = bytes(range(256))
    (out / "mulaw.s16").write_bytes(audioop.ulaw2lin(codes, 2))
    (out / "alaw.s16").write_bytes(audioop.alaw2lin(codes, 2))


if __name__ == "__main__":
    main()
