"""Speech for perf_analyzer: 0.32 s at 16 kHz, eight frames. Prints JSON."""

import json
import math

RATE_HZ = 16_000
N_SAMPLES = RATE_HZ * 8 // 25
SAMPLES = [round(8000 * math.sin(2 * math.pi * 180 * n / RATE_HZ)) for n in range(N_SAMPLES)]
print(json.dumps({"data": [{"PCM": {"content": SAMPLES, "shape": [N_SAMPLES]}}]}))
