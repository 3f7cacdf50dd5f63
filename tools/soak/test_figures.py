"""The verdict finds what it is there to find, and nothing else. Run with `python3 -m unittest`."""

import math
import random
import unittest

from figures import Sample, judge, percentile, slope


def run(minutes, leak_mb_per_min=0.0, fd_per_min=0.0, slower=0.0, wrong=0, rest_every_s=240):
    dice = random.Random(7)
    samples, rests, probes = [], [], []
    for n in range(int(minutes * 12)):
        at = n * 5.0
        samples.append(
            Sample(
                at,
                400 + 200 * dice.random() + leak_mb_per_min * at / 60,
                60 + dice.randrange(6) + int(fd_per_min * at / 60),
                30 + dice.randrange(2),
            )
        )
    for n in range(int(minutes * 60 / rest_every_s)):
        at = n * rest_every_s
        rests.append(Sample(at, 40 + 0.5 * dice.random() + leak_mb_per_min * at / 60, 20, 20))
    for n in range(int(minutes * 60 * 4)):
        at = n / 4
        probes.append((at, 0.020 + 0.01 * dice.random() + slower * at / 3600))
    return {f.name: f.is_good for f in judge(samples, rests, probes, wrong, [])}


class Verdict(unittest.TestCase):
    def test_a_healthy_run_passes(self):
        for minutes in (20, 120):
            self.assertTrue(all(run(minutes).values()), run(minutes))

    def test_a_leak_is_found(self):
        self.assertFalse(run(20, leak_mb_per_min=1.0, rest_every_s=120)["RSS at rest, from the middle"])
        self.assertFalse(run(120, leak_mb_per_min=0.1)["RSS at rest, from the middle"])
        self.assertFalse(run(120, leak_mb_per_min=10.0)["RSS under load, from the middle"])
        self.assertFalse(run(20, fd_per_min=2.0)["descriptors"])

    def test_a_small_leak_counts_in_a_long_run(self):
        self.assertFalse(run(120, leak_mb_per_min=0.03)["RSS at rest, from the middle"], "1.8 MB an hour")

    def test_a_long_run_without_rests_shows_nothing(self):
        self.assertFalse(run(120, rest_every_s=10_000)["RSS at rest, from the middle"])

    def test_slowness_and_wrong_answers_are_found(self):
        found = run(20, slower=0.05, wrong=1)
        self.assertFalse(found["wrong answers"])
        self.assertFalse(found["p99 of the probe, last 7 min / first"])

    def test_a_line_is_found_exactly(self):
        line = slope([(n * 10.0, 5 + n / 360) for n in range(240)])
        self.assertAlmostEqual(line.per_hour, 1.0, places=6)
        self.assertTrue(math.isinf(slope([(0.0, 1.0)]).error))
        self.assertEqual(percentile([3.0, 1.0, 2.0], 99), 3.0)


if __name__ == "__main__":
    unittest.main()
