"""The one table that `run.py` prints: targets first, then every figure."""

import pathlib

# Nothing but a tool that is not installed may be missing.
HARMLESS = ("passed", "absent")
# What compute-sanitizer is told to exit with where it found something.
SANITIZER_FOUND = 99
# One that was stopped, or whose program failed, has said nothing.
SANITIZER_SAYS = {"passed": "right", f"exit code {SANITIZER_FOUND}": "WRONG"}


def table(about, steps):
    """The text, and whether all steps ran and everything that is right or wrong is right."""
    steps = [{**step, "found": [without_nulls(found) for found in step["found"]]} for step in steps]
    verdicts = list(targets(steps))
    is_right = all(verdict != "WRONG" for _, _, _, verdict in verdicts)
    is_right &= all(step["state"] in HARMLESS for step in steps)
    is_right &= not any(found.get("is_right") is False for step in steps for found in step["found"])
    lines = [about["card"], f"{about['date']}, commit {about['commit'][:12]}", ""]
    lines.append(f"{'target':38} {'wanted':18} {'found':34} verdict")
    lines += [f"{what:38} {wanted:18} {found:34} {verdict}" for what, wanted, found, verdict in verdicts]
    for step in steps:
        took = f", {step['seconds']:.0f} s" if "seconds" in step else ""
        lines += ["", f"{step['step']}: {step['state']}{took}{' (' + step['reason'] + ')' if 'reason' in step else ''}"]
        lines += [f"  {line}" for found in step["found"] for line in told(found)]
        if step["state"] not in HARMLESS and step.get("errors"):
            lines += [f"  ! {line}" for line in step["errors"].splitlines()[-5:]]
    return "\n".join(lines) + "\n", is_right


def without_nulls(found):
    """A number that is none (JSON has no word for infinity) is an error; load tests know what they lack."""
    nulls = [key for key, value in found.items() if value is None]
    if not nulls or "error" in found or found.get("part") == "load":
        return found
    return {**found, "error": f"no number: {', '.join(nulls)}", "is_right": False}


def told(found):
    """`figures`, or why there are none: one line that cannot be told must not cost the table."""
    try:
        return list(figures(found))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return [f"{found.get('part')}: cannot be told, {type(error).__name__}: {error}"]


def short(network):
    """`full` for `full/generator.onnx`; other names as they are."""
    path = pathlib.PurePath(network)
    return path.parent.name or path.name


def of_part(steps, part):
    return [found for step in steps for found in step["found"] if found.get("part") == part]


def judged(found, part_is_right="is_right"):
    if not found:
        return "not measured"
    return "right" if all(each.get(part_is_right) for each in found) else "WRONG"


def targets(steps):
    """What the engine is held to: what, wanted, found, verdict."""
    right = (kernels_right, numerics, equality, encoder, clients, memory, sanitizers, nvml)
    for group in (*right, speeds, against_peer, latency, users):
        try:
            yield from list(group(steps))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            yield group.__name__, "-", f"cannot be told, {type(error).__name__}: {error}", "WRONG"


def kernels_right(steps):
    kernels = of_part(steps, "kernels")
    wrong = [kernel for each in kernels for kernel in each["wrong"]]
    yield "kernels that differ from their twins", "0", str(len(wrong)) if kernels else "-", judged(kernels)


def numerics(steps):
    for each in of_part(steps, "numerics") or [{}]:
        what = f"relative L2 from the f32 CPU, {short(each.get('network', '-'))}"
        text = each.get("error") or (f"{each['relative_l2']:.1e}, {each['psnr_db']:.1f} dB" if each else "-")
        yield what, "<= 1e-2", text, judged([each] if each else [])


def equality(steps):
    for each in of_part(steps, "equality") or [{}]:
        what = f"bits in batches on 8 streams, {short(each.get('network', '-'))}"
        text = each.get("error") or (f"{each['different']} of {each['frames']} differ" if each else "-")
        yield what, "0 differ", text, judged([each] if each else [])


def encoder(steps):
    for each in [each for each in of_part(steps, "encoder") if "is_right" in each] or [{}]:
        equal = "equal" if each.get("batches_are_equal") else "NOT equal"
        text = each.get("error") or (f"{each['relative_l2']:.1e}, batches {equal}" if each else "-")
        yield "relative L2 from the f32 CPU, audio steps", "<= 1e-2", text, judged([each] if each else [])


def clients(steps):
    for each in [load for load in of_part(steps, "load") if load.get("equality")] or [{}]:
        found = each.get("equality", {})
        what = f"{found.get('users', 16)} clients at once, {each.get('network', '-')}"
        text = "-"
        if found:
            batches = f"{found['largest_batch_alone']}/{found['largest_batch_together']}"
            text = f"{found['different']} of {found['frames']} differ, batch {batches}"
        yield what, "0 differ", text, judged([each] if each else [], "passed")


def memory(steps):
    for each in of_part(steps, "memory") or [{}]:
        loads = "/".join(map(str, each.get("cycles", [2, 20, 100])))
        what = f"memory after {loads} loads, {short(each.get('network', '-'))}"
        text = each.get("error") or (f"{'/'.join(f'{used / 1e6:.0f}' for used in each['used_bytes'])} MB" if each else "-")
        yield what, "within 1 %", text, judged([each] if each else [])


def sanitizers(steps):
    for step in steps:
        if step["step"].startswith("compute-sanitizer"):
            yield step["step"], "clean", step["state"], SANITIZER_SAYS.get(step["state"], "not measured")


def nvml(steps):
    found = [each for each in of_part(steps, "server") if "is_right" in each]
    text = next((", ".join(each["cards"][0].split(", ")[-2:]) for each in found if each["cards"]), "-")
    yield "the server knows how its card is", "degrees", text, judged(found)


# What a count of instructions predicts for an H100 or H200 with kept backgrounds: frames/s by batch and streams. Beside the
# figures, so that what is far from it is seen at once.
PREDICTED = {(1, 1): "2000 to 2500", (16, 8): "11000 to 15600", (64, 8): "13500", (16, 1): "8000 to 9000", (8, 8): "12000", (1, 8): "5000 to 9000"}


def plain(steps):
    """Without those that change one thing, to compare."""
    return [step for step in steps if not step["step"].startswith("A/B")]


def of_full(steps, part):
    """What has a figure, of the full-size network as it is served."""
    return [each for each in of_part(plain(steps), part) if "error" not in each and short(each["network"]) != "mira"]


def speeds(steps):
    all_workers = [each for each in of_full(steps, "speed") if each["streams"] == 8 and each["batch"] >= 16]
    best = max(all_workers, key=lambda each: each["frames_per_second"], default=None)
    text = f"{best['frames_per_second']:.0f}/s, batch {best['batch']}" if best else "-"
    yield "frames, batch 16 to 64, 8 workers", ">= 10000/s", text, reached(best and best["frames_per_second"] >= 10_000)


def against_peer(steps):
    ours = of_full(steps, "speed")
    peer = {(row["way"], row["batch"]): row for row in of_full(steps, "peer")}
    for kept in (True, False):
        name = "kept" if kept else "whole"
        pairs = []
        for batch in (16, 64):
            mine = max((each["frames_per_second"] for each in ours if each["batch"] == batch and each["kept"] == kept), default=None)
            row = peer.get(("graph", batch))
            if mine and row:
                pairs.append((mine / row["frames_per_second"], batch))
        text = ", ".join(f"{ratio:.2f}x at {batch}" for ratio, batch in pairs) or "-"
        yield f"against PyTorch's CUDA graph, {name}", ">= 2x", text, reached(all(ratio >= 2 for ratio, _ in pairs) if pairs else None)


def latency(steps):
    ours = of_full(steps, "speed")
    one = next((each for each in ours if each["batch"] == 1 and each["streams"] == 1 and each["kept"]), None)
    yield "latency of one frame, p50", "<= 1 ms", f"{one['p50_ms']:.2f} ms" if one else "-", reached(one and one["p50_ms"] <= 1)


def users(steps):
    for load in of_part(steps, "load"):
        if "max_users" in load:
            yield f"conversations, p95 <= 200 ms, {load['network']}", "-", str(load["max_users"]), "-"


def reached(is_reached):
    return {None: "not measured", True: "reached", False: "MISSED"}[is_reached]


def figures(found):
    """The lines of one thing that was found."""
    part = found.get("part")
    if "error" in found:
        yield f"{part} {found.get('way', '')} {found.get('batch', '')} {short(found.get('network', ''))}: {found['error']}"
    elif part == "device" and "name" in found:
        capability, driver = (".".join(map(str, found[key])) for key in ("compute_capability", "cuda_of_driver"))
        opened = f", opened in {found['opened_in_s']:.1f} s" if "opened_in_s" in found else ""
        yield f"{found['name']}, compute capability {capability}, driver's CUDA {driver}{opened}"
    elif part == "torch":
        yield f"PyTorch {found['torch']} on {found['device']}"
    elif part == "server":
        yield from found["lines"]
    elif part == "kernels":
        yield from found["wrong"]
    elif part == "footprint":
        yield ", ".join(f"{key} {value}" for key, value in found.items() if isinstance(value, int))
    elif part == "speed":
        kept = "kept" if found["kept"] else "whole"
        run = f"{found['frames_per_second']:9.0f} frames/s, p50 {found['p50_ms']:.2f} ms, p99 {found['p99_ms']:.2f} ms"
        predicted = PREDICTED.get((found["batch"], found["streams"])) if found["kept"] and short(found["network"]) == "full" else None
        beside = f" (predicted {predicted})" if predicted else ""
        yield f"{short(found['network']):12} batch {found['batch']:3}, {found['streams']:2} streams, {kept:5} {run}{beside}"
    elif part == "encoder" and "steps_per_second" in found:
        run = f"{found['steps_per_second']:9.0f} steps/s"
        on_host = "on_one_core_of_the_host" in found
        yield f"audio steps, one core of the host  {run}" if on_host else f"audio steps, batch {found['batch']:3}, {found['threads']} threads {run}"
    elif part == "apart":
        times = ("empty_wait", "replay", "copies", "whole", "entry_idle", "entry_busy")
        yield f"batch {found['batch']:3}: " + ", ".join(f"{name.replace('_', ' ')} {found[name + '_us']:.0f} us" for name in times)
        yield f"           a captured sequence of {found['captured_launches']} launches takes {found['captured_bytes']} B"
    elif part == "cost":
        for who in ("server", "client"):
            each = found[who]
            yield f"{who}: {each['cpu_us']:.0f} us of CPU and {each['minor_faults']:.1f} minor faults a frame"
        if found["gpu"]:
            gpu = found["gpu"]
            yield f"GPU {gpu['gpu_percent']:.0f} % busy, memory {gpu['memory_percent']:.0f} %, {gpu['watts']:.0f} W, {gpu['sm_mhz']:.0f} MHz"
    elif part == "blocks":
        yield f"faces of fused blocks and of separate kernels are {'equal' if found['faces_are_equal'] else 'NOT equal'}"
        for speed in found["speeds"]:
            yield f"batch {speed['batch']}, {speed['streams']} streams, {speed['blocks']:8} {speed['frames_per_second']:9.0f} frames/s"
    elif part == "peer":
        run = f"{found['frames_per_second']:9.0f} frames/s, {found['ms']:.2f} ms a batch"
        yield f"{short(found['network']):12} PyTorch {found['way']:8} batch {found['batch']:3}       {run}"
    elif part == "launches":
        for launch in sorted(found["each"], key=lambda each: -each["us"])[:12]:
            yield f"{launch['us']:8.1f} us {launch['tflops']:6.1f} TFLOP/s  {launch['kernel']:16} {launch['shape']}"
    elif part == "load":
        for run in [found["run"]] if found.get("run") else found.get("probes", []):
            latency = run.get("latency_ms") or {}
            yield f"{run['users']:4} users {run['frames_per_second']:9.0f} frames/s, p95 {latency.get('p95', 0):.0f} ms"
