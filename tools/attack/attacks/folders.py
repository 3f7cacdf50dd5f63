"""Avatar folders that somebody else made: links out of them, pipes, and files that cost more than they weigh."""

import contextlib
import os
import shutil
import time

import server
import trial
from attacks.outputs import admin
from registry import check

SECRET = "tenant-b-api-key-123456"


def folder(bench, name, source="tomo"):
    """A fresh copy of a demo avatar, and the entry of the configuration that names it."""
    path = bench.folder / "avatars" / name
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(bench.folder / "avatars" / source, path)
    return path


def replace(path, target):
    """Puts a symbolic link in the place of a file or folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)


def models(*names):
    return {"mira": {"path": "mira", "preload": True}} | {name: {"path": name} for name in names}


def load(under_test, name, timeout=20):
    """Loads a model; the gRPC error, or None, and the seconds that it took."""
    import grpc

    pb, _, stub = admin(under_test)
    start = time.monotonic()
    try:
        stub.LoadModel(pb.LoadModelRequest(model_id=name), timeout=timeout)
        return None, time.monotonic() - start
    except grpc.RpcError as error:
        return error, time.monotonic() - start


@check("folder-theft")
def theft(bench, result):
    """The folder of one model links to the frames of another: its owner gets the pictures of another tenant."""
    import grpc

    path = folder(bench, "thief")
    replace(path / "frames", "../mira/frames")
    replace(path / "crop_rectangles.json", "../mira/crop_rectangles.json")
    with bench.server(models=models("thief")) as under_test:
        pb, lipsync, _ = admin(under_test)

        def frame(model):
            request = pb.GetBackgroundRequest(model_id=model, background_indices=[3])
            return lipsync.GetBackground(request, timeout=20).frames[0].data

        try:
            result.expect(
                frame("thief") != frame("mira"), "a folder link served another model's frames"
            )
        except grpc.RpcError as error:
            result.notes.append(f"refused: {error.details()[:100]}")


@check("folder-leak")
def leak(bench, result):
    """Files of the folder link to a secret elsewhere; the error about it must not quote what stands there."""
    (bench.folder / "secret").write_text(f'["{SECRET}"]')
    names = ("crop_rectangles.json", "avatar.yaml", "generator.onnx", "generator.precision.json")
    for n, name in enumerate(names):
        replace(folder(bench, f"leak{n}") / name, bench.folder / "secret")
    with bench.server(models=models(*(f"leak{n}" for n in range(len(names))))) as under_test:
        for n, name in enumerate(names):
            error, _ = load(under_test, f"leak{n}")
            if error:
                result.expect(
                    SECRET not in error.details(),
                    f"{name}: the status quotes a file outside the folder",
                )
        pb, _, stub = admin(under_test)
        result.expect(
            SECRET not in str(stub.ListModels(pb.ListModelsRequest(), timeout=10)),
            "ListModels quotes a file outside the folder",
        )
        result.expect(
            SECRET not in server.http_get(under_test.ops, "/api/stats").decode(errors="replace"),
            "/api/stats quotes it",
        )


@check("folder-overwrite")
def overwrite(bench, result):
    """Links stand where a bake writes its draft and its pack: a draft that is opened, and not made, overwrites what they name."""
    victims = {}
    for name, make in (("hard", os.link), ("soft", os.symlink)):
        path = folder(bench, name)
        victims[name] = bench.folder / f"victim-{name}"
        victims[name].write_text("precious data\n" * 10)
        make(victims[name], path / "avatar.pack.tmp")
    kept = {name: victim.read_bytes() for name, victim in victims.items()}
    with bench.server(
        models=models(*victims), options={"capacity": {"bake": "auto"}}
    ) as under_test:
        for name in victims:
            error, _ = load(under_test, name)
            result.notes.append(f"{name}: {error.details()[:80] if error else 'loaded'}")
        end = time.monotonic() + 20
        while time.monotonic() < end and all(v.read_bytes() == kept[n] for n, v in victims.items()):
            if all((bench.folder / "avatars" / n / "avatar.pack").exists() for n in victims):
                break
            time.sleep(0.2)
        for name, victim in victims.items():
            result.expect(
                victim.read_bytes() == kept[name],
                f"the bake overwrote a file through a {name} link",
            )
        trial.judge_drain(result, under_test, may_use_grace=False)


@check("folder-pipes")
def pipes(bench, result):
    """A FIFO or an endless device stands in the place of a file: whoever opens or reads it to its end never comes back."""
    made = []
    for file in (
        "avatar.yaml",
        "generator.onnx",
        "crop_rectangles.json",
        "frames/frame_0000.jpg",
        "avatar.pack",
    ):
        for kind in ("fifo", "zero"):
            name = f"{kind}{len(made)}"
            path = folder(bench, name) / file
            path.unlink(missing_ok=True)
            if kind == "fifo":
                os.mkfifo(path)
            else:
                path.symlink_to("/dev/zero")
            made.append((name, file, kind))
    with bench.server(models=models(*(name for name, _, _ in made))) as under_test:
        before = under_test.sample()["rss"]
        for name, file, kind in made:
            _, seconds = load(under_test, name, timeout=4)
            result.expect(seconds < 3.5, f"{kind} as {file}: the load did not return in 4 s")
        client = trial.read(trial.honest(under_test, 2, ("infer", "stats")))
        trial.judge_client(result, {}, {}, client)
        peak = under_test.sample()["peak"]
        result.expect(peak - before < 300, f"memory grew by {peak - before:.0f} MB")
        trial.judge_drain(result, under_test, may_use_grace=False)


@check("folder-deep")
def deep(bench, result):
    """200 kB of brackets in YAML and in JSON: a parser that takes quadratic time is busy for half a minute, one that recurses ends
    the process."""
    brackets = "[" * 100_000 + "]" * 100_000
    with open(folder(bench, "yaml") / "avatar.yaml", "a") as file:
        file.write(f"about: {brackets}\n")
    (folder(bench, "json") / "crop_rectangles.json").write_text(brackets)
    with bench.server(models=models("yaml", "json")) as under_test:
        for name in ("yaml", "json"):
            _, seconds = load(under_test, name, timeout=10)
            result.expect(seconds < 3, f"{name}: 200 kB of brackets took {seconds:.1f} s")
        result.expect(under_test.alive(), "the server died")
        trial.judge_drain(result, under_test, may_use_grace=False)


def networks():
    """The modules that make networks."""
    try:
        import numpy
        import onnx
    except ImportError:
        raise trial.Skip("needs onnx and numpy") from None
    return onnx, numpy


@check("folder-names")
def names(bench, result):
    """A tensor of a network has a name of 8 MB and a value that is no number: the name comes back in every error, in everybody's
    ListModels, on the page, and in the log."""
    import grpc

    onnx, numpy = networks()
    path = folder(bench, "names") / "generator.onnx"
    network = onnx.load(path)
    tensor = network.graph.initializer[0]
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] = numpy.nan
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, "N" * (8 << 20)))
    path.write_bytes(network.SerializeToString())
    with bench.server(models=models("names")) as under_test:
        error, _ = load(under_test, "names")
        result.expect(error is not None, "a network with a value that is no number was loaded")
        result.expect(
            not error or len(error.details()) < 2000, "the status is longer than 2,000 characters"
        )
        pb, _, stub = admin(under_test)
        try:
            size = stub.ListModels(pb.ListModelsRequest(), timeout=10).ByteSize()
            result.expect(size < 8000, f"ListModels of everybody has {size} bytes")
        except grpc.RpcError as error:
            result.faults.append(
                f"ListModels of everybody: {error.code().name} {error.details()[:80]}"
            )
        size = len(server.http_get(under_test.ops, "/api/stats"))
        result.expect(size < 64_000, f"/api/stats has {size} bytes")
        trial.read(trial.honest(under_test, 2, ("infer",), "names"))
        size = under_test.log.stat().st_size
        result.expect(size < 256_000, f"24 requests wrote {size} bytes of log")
        trial.judge_drain(result, under_test, may_use_grace=False)


def heavy_network(path, size=320, channels=128, layers=4):
    """Writes a valid generator that costs some 60 GMAC a frame, and is small."""
    onnx, numpy = networks()
    helper, array = onnx.helper, onnx.numpy_helper.from_array
    random, weights, nodes = numpy.random.default_rng(1), [], []

    def conv(source, out, inputs, kernel):
        values = (random.random((out, inputs, kernel, kernel), dtype="f4") - 0.5) * 0.01
        weights.append(array(values, f"w{len(weights)}"))
        nodes.append(
            helper.make_node(
                "Conv",
                [source, weights[-1].name],
                [f"y{len(nodes)}"],
                kernel_shape=[kernel] * 2,
                pads=[kernel // 2] * 4,
            )
        )
        return nodes[-1].output[0]

    picture = conv("visual", channels, 6, 1)
    for _ in range(layers):
        picture = conv(picture, channels, channels, 3)
    picture = conv(picture, 3, channels, 1)
    audio = conv("audio", 3, 32, 1)
    weights.append(array(numpy.array([1, 3, size, size], "i8"), "size"))
    nodes.append(
        helper.make_node(
            "Resize",
            [audio, "", "", "size"],
            ["wide"],
            mode="linear",
            coordinate_transformation_mode="align_corners",
        )
    )
    nodes.append(helper.make_node("Add", [picture, "wide"], ["sum"]))
    nodes.append(helper.make_node("Sigmoid", ["sum"], ["out"]))
    value = helper.make_tensor_value_info
    inputs = [value("visual", 1, ["b", 6, size, size]), value("audio", 1, ["b", 32, 16, 16])]
    graph = helper.make_graph(
        nodes, "heavy", inputs, [value("out", 1, ["b", 3, size, size])], weights
    )
    path.write_bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8
        ).SerializeToString()
    )


@check("folder-heavy")
def heavy(bench, result):
    """One request of 64 frames of a network of 60 GMAC a frame, cancelled after 2 s, beside a normal client of another model. What
    cannot be stopped between two frames holds the workers long after nobody waits for it."""
    import grpc

    path = folder(bench, "heavy", "mira")
    heavy_network(path / "generator.onnx")
    (path / "generator.precision.json").unlink(missing_ok=True)
    with bench.server(
        models=models("heavy"), options={"server": {"worker_count": 2}}
    ) as under_test:
        trial.read(trial.honest(under_test, 2, ("infer", "stats")))
        alone, again = (
            trial.read(trial.honest(under_test, bench.seconds / 2, ("infer", "stats")))
            for _ in range(2)
        )
        error, seconds = load(under_test, "heavy", timeout=40)
        if error:
            result.notes.append(f"refused after {seconds:.1f} s: {error.details()[:120]}")
            return
        pb, lipsync, _ = admin(under_test)
        windows = pb.FeatureWindows(data=bytes(64 * 32 * 16 * 16 * 4))
        request = pb.InferBatchCompositeRequest(
            model_id="heavy", windows=windows, output=pb.OutputOptions(region_only=True)
        )
        before = under_test.sample()["rss"]
        under_test.reset_peak()
        with contextlib.suppress(grpc.RpcError):
            lipsync.InferBatchComposite(request, timeout=2)
        now = trial.read(trial.honest(under_test, bench.seconds, ("infer", "stats")))
        trial.judge_client(result, alone, again, now)
        end = under_test.sample()
        result.figures |= {
            "alone": alone,
            "again": again,
            "beside": now,
            "rss_before": before,
            "rss_peak": end["peak"],
            "rss_after": end["rss"],
        }
        result.expect(
            end["peak"] - before < 1500, f"memory grew by {end['peak'] - before:.0f} MB, over 1500"
        )
        trial.judge_drain(result, under_test, may_use_grace=False)
