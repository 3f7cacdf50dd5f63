"""What the samples of a run say: slopes with their uncertainty, percentiles, and the verdict."""

import math
import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """The process at a moment."""

    at_s: float
    rss_mb: float
    descriptors: int
    threads: int


SURE = 3
"""Standard errors within which a slope is sure to lie: once in a hundred runs a healthy server is beyond."""


@dataclass(frozen=True)
class Slope:
    """A line through points, and how sure it is."""

    per_hour: float
    error: float
    """One standard error, of points that depend on their neighbours."""

    @property
    def at_least(self) -> float:
        """The slope that is certain."""
        return self.per_hour - SURE * self.error


@dataclass(frozen=True)
class Finding:
    """One line of the verdict."""

    name: str
    found: str
    limit: str
    is_good: bool


BLOCKS = 12
"""Neighbouring samples depend on each other, so the line goes through the medians of so many blocks."""


LONG_S = 90 * 60
"""Runs of this length must show a small slope; of shorter ones, only a certain rise counts."""


def slope(points: list[tuple[float, float]]) -> Slope:
    """A least-squares line through block medians; x in seconds, the slope by the hour."""
    size = max(len(points) // BLOCKS, 1)
    blocks = [points[n : n + size] for n in range(0, len(points) - size + 1, size)]
    if len(blocks) < 3:
        return Slope(0.0, math.inf)
    xs = [statistics.fmean(x for x, _ in block) / 3600 for block in blocks]
    ys = [statistics.median(y for _, y in block) for block in blocks]
    mean_x, mean_y = statistics.fmean(xs), statistics.fmean(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    rise = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    left = sum((y - mean_y - rise * (x - mean_x)) ** 2 for x, y in zip(xs, ys, strict=True))
    return Slope(rise, math.sqrt(left / (len(blocks) - 2) / spread))


def percentile(values: list[float], percent: float) -> float:
    """The nearest rank; nan of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(math.ceil(percent / 100 * len(ordered)) - 1, 0)]


def judge(
    samples: list[Sample],
    rests: list[Sample],
    probes: list[tuple[float, float]],
    wrong: int,
    faults: list[tuple[float, float]],
) -> list[Finding]:
    """The verdict on a run. `rests` are the samples taken while nobody called. `probes` are (when, seconds); what falls
    into a fault does not count."""
    end = samples[-1].at_s
    late = [s for s in samples if s.at_s >= end / 2]
    certain = "<= 1 MB/h, as far as it can tell"
    # Under load models come and go, and a short run has few rests: those fail where a rise is certain.
    is_long = end >= LONG_S
    findings = []
    for name, these, is_strict in (
        ("RSS at rest, from the middle", [s for s in rests if s.at_s >= end / 2], is_long),
        ("RSS under load, from the middle", late, False),
    ):
        rss = slope([(s.at_s, s.rss_mb) for s in these])
        is_known = math.isfinite(rss.error)
        level = f"{statistics.median(s.rss_mb for s in these):.1f} MB, " if these else ""
        findings.append(
            Finding(
                name,
                f"{level}{rss.per_hour:+.1f} ± {SURE * rss.error:.1f} MB/h" if is_known else "too few samples",
                "<= 1 MB/h" if is_strict else certain,
                (is_known and rss.per_hour <= 1.0) if is_strict else rss.at_least <= 1.0,
            )
        )
    for name, of in (("descriptors", "descriptors"), ("threads", "threads")):
        third, last = (
            [getattr(s, of) for s in late if low <= s.at_s < high]
            for low, high in ((end / 2, end * 2 / 3), (end * 5 / 6, end + 1))
        )
        # Medians: reloads, crashes and probes come and go.
        before, after = statistics.median(third), statistics.median(last)
        room = max(3.0, 0.05 * before)
        findings.append(
            Finding(name, f"{before:.0f} -> {after:.0f}", "flat", after - before <= room)
        )
    findings.append(Finding("wrong answers", str(wrong), "0", wrong == 0))
    window = min(600.0, end / 3)

    def p99(low: float, high: float) -> float:
        def calm(at: float) -> bool:
            return not any(begin - 1 <= at <= over + 2 for begin, over in faults)

        return percentile([took for at, took in probes if low <= at < high and calm(at)], 99) * 1e3

    # The first minute is for loading.
    first, last_ms = p99(60.0, 60.0 + window), p99(end - window, end + 1)
    findings.append(
        Finding(
            f"p99 of the probe, last {window / 60:.0f} min / first",
            f"{last_ms:.0f} ms / {first:.0f} ms",
            "<= 1.1",
            last_ms <= 1.1 * first + 2.0,
        )
    )
    return findings
