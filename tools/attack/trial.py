"""One trial: the normal client alone, alone again, beside the attack, then a drain under attack; and its verdict."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time

import children
import server

HERE = pathlib.Path(__file__).parent
# Figures below this say nothing: the p99 beside an attack may always be so much, ms.
FLOOR_MS = 25
# The p99 beside an attack against the one alone.
FACTOR = 2
# A drain ends within the grace. On a busy machine its process may be gone a moment later, seconds.
SLACK_S = 0.25
# Where the attacker is owed nothing, this part of the grace is enough.
PART = 0.8


class Skip(Exception):
    """The attack cannot be tried on this machine; says why."""


@dataclasses.dataclass
class Result:
    name: str
    faults: list = dataclasses.field(default_factory=list)
    notes: list = dataclasses.field(default_factory=list)
    skipped: str = ""
    figures: dict = dataclasses.field(default_factory=dict)

    @property
    def verdict(self):
        return "skipped" if self.skipped else "FAILED" if self.faults else "ok"

    def expect(self, true, fault):
        if not true:
            self.faults.append(fault)


def honest(target, seconds, kinds, model="mira"):
    """Starts the normal client; `read` gives its figures."""
    command = [
        sys.executable,
        str(HERE / "honest.py"),
        str(target.port),
        str(target.ops),
        str(seconds),
        ",".join(kinds),
        model,
        *([target.ca] if getattr(target, "ca", None) else []),
    ]
    return children.start(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def read(client, timeout=90):
    """The figures of a normal client, once it is done."""
    try:
        out, _ = client.communicate(timeout=timeout)
        return json.loads(out)
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return {}
    finally:
        children.end(client)


class Attackers:
    """The processes that attack. As a context they are killed at its end."""

    def __init__(self, attack, target, source, seconds):
        command = [sys.executable, str(HERE / "run.py"), "--attacker", attack.name]
        command += [str(target.port), str(target.ops), source, str(seconds), str(target.folder)]
        # An attacker has a machine of its own: here it gets only the time of ours that nobody else wants.
        self.children = [
            children.start(
                command,
                prepare=children.give_way,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for _ in range(attack.processes)
        ]

    def said(self, result):
        """Ends them, and sorts what they said into faults and notes, each once. An attacker that broke has shown nothing."""
        for child in self.children:
            result.expect(child.poll() in (None, 0), "an attacker broke")
            child.terminate()
        for child in self.children:
            try:
                out = child.communicate(timeout=3)[0]
            except subprocess.TimeoutExpired:
                children.end(child)
                out = child.communicate()[0]
            for line in out.splitlines():
                kind, _, text = line.partition(" ")
                said = {"fault": result.faults, "note": result.notes}.get(kind, [])
                if text not in said and len(said) < 8:
                    said.append(text)
            if "Traceback" in out:
                result.faults.append(f"an attacker broke: {out.splitlines()[-1][:120]}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            children.end(child)


def judge_client(result, alone, again, beside):
    """Success and p99 of every kind of request, beside against alone."""
    for run in (alone, again):
        failed = {kind: of["errors"] for kind, of in run.items() if of["ok"] < of["n"]}
        result.expect(not failed, f"the normal client failed without an attack: {failed}")
    for kind in beside or {"client": None}:
        now = beside.get(kind)
        if now is None:
            result.faults.append("the normal client did not come to its end")
            return
        if now["ok"] < now["n"]:
            result.faults.append(
                f"{kind}: {now['n'] - now['ok']} of {now['n']} failed {now['errors']}"
            )
        before = [run[kind]["p99"] for run in (alone, again) if run.get(kind, {}).get("p99")]
        if not before or now["p99"] is None:
            continue
        limit = max(FLOOR_MS, FACTOR * max(before))
        result.expect(now["p99"] <= limit, f"{kind}: p99 {now['p99']:.0f} ms, over {limit:.0f}")


def judge_drain(result, under_test, may_use_grace):
    """SIGTERM now; the server must be gone in its grace, with exit code 0. A drain that takes nearly all of it was cut off:
    so would be the answers of honest callers, which is a fault where the attacker was owed nothing."""
    code, seconds = under_test.drain()
    result.figures["drain_s"] = round(seconds, 1)
    limit = server.GRACE_S + SLACK_S if may_use_grace else server.GRACE_S * PART
    if code is None:
        result.faults.append(
            f"the drain did not end: still there after {seconds:.0f} s, grace {server.GRACE_S}"
        )
    else:
        result.expect(seconds <= limit, f"the drain took {seconds:.1f} s, over {limit:.1f}")
        result.expect(code == 0, f"the drain ended with exit code {code}")


def beside(attack, source, bench):
    """Tries an attack beside a normal client, and returns the result."""
    result = Result(attack.name if source == attack.sources[0] else f"{attack.name}@{source}")
    if attack.prepare:
        attack.prepare(bench.folder)
    with bench.server(
        options=attack.options, models=attack.models, limits=attack.limits, tls=attack.tls
    ) as under_test:
        read(honest(under_test, 2, attack.honest))
        alone, again = (
            read(honest(under_test, bench.seconds / 2, attack.honest)) for _ in range(2)
        )
        before = under_test.sample()
        under_test.reset_peak()
        sampler = server.Sampler(under_test.pid)
        with Attackers(attack, under_test, source, bench.seconds + 12) as attackers:
            time.sleep(1.5)
            now = read(honest(under_test, bench.seconds, attack.honest))
            end = under_test.sample() or {"peak": 0, "rss": 0}
            attackers.said(result)
        most = sampler.stop()
        judge_client(result, alone, again, now)
        peak = max(most.get("rss", 0), end["peak"])
        growth = peak - before["rss"]
        result.expect(
            growth <= attack.growth_mb, f"memory grew by {growth:.0f} MB, over {attack.growth_mb}"
        )
        time.sleep(2)
        after = under_test.sample()
        result.figures |= {"alone": alone, "again": again, "beside": now}
        result.figures |= {
            "rss_before": before["rss"],
            "rss_peak": peak,
            "rss_after": (after or {}).get("rss", 0),
        }
        result.figures |= {
            "fds": most.get("fds"),
            "threads": most.get("threads"),
            "growth_limit": attack.growth_mb,
        }
        if not under_test.alive():
            result.faults.append(
                f"the server died, exit code {under_test.process.returncode}: {under_test.tail(120)}"
            )
            return result
        with Attackers(attack, under_test, source, server.GRACE_S + 20):
            time.sleep(3)
            judge_drain(result, under_test, attack.may_use_grace)
    return result
