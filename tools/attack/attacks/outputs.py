"""Outputs that cannot be written: a full disk, a closed pipe, a pipe that nobody reads."""

import os
import subprocess
import sys
import time

import server
import trial
from registry import check

BROKEN = {
    "mira": {"path": "mira", "preload": True},
    "tomo": {"path": "tomo"},
    "broken": {"path": "broken"},
}


def admin(under_test):
    """The modules and stubs that a check needs: messages, LipSync, ModelAdmin."""
    import grpc

    sys.path.insert(0, str(server.ROOT / "clients/python/src"))
    from lipsync_client.v1 import lipsync_pb2, lipsync_pb2_grpc

    channel = grpc.insecure_channel(
        f"127.0.0.1:{under_test.port}", options=[("grpc.max_receive_message_length", 64 << 20)]
    )
    return (
        lipsync_pb2,
        lipsync_pb2_grpc.LipSyncStub(channel),
        lipsync_pb2_grpc.ModelAdminStub(channel),
    )


def provoke(under_test, result, when):
    """Asks for a broken model, whose failures are logged, then loads a good one and uses it."""
    import grpc

    trial.read(trial.honest(under_test, 1.5, ("infer",), "broken"))
    pb, lipsync, models = admin(under_test)
    try:
        models.UnloadModel(pb.UnloadModelRequest(model_id="tomo"), timeout=8)
        models.LoadModel(pb.LoadModelRequest(model_id="tomo"), timeout=8)
        lipsync.GetBackground(
            pb.GetBackgroundRequest(model_id="tomo", background_indices=[0]), timeout=8
        )
    except grpc.RpcError as error:
        result.faults.append(
            f"{when}: a cold model could not be used: {error.code().name} {error.details()[:80]}"
        )
    now = trial.read(trial.honest(under_test, 1.5, ("infer", "stats")))
    trial.judge_client(result, {}, {}, now)
    result.expect(
        under_test.alive(), f"{when}: the server died, exit code {under_test.process.returncode}"
    )


def with_outputs(bench, result, what, **outputs):
    """A server whose outputs are `outputs` must start, serve, and drain."""
    (bench.folder / "avatars/broken").mkdir(exist_ok=True)
    try:
        with bench.server(models=BROKEN, **outputs) as under_test:
            provoke(under_test, result, what)
            trial.judge_drain(result, under_test, may_use_grace=False)
    except RuntimeError as error:
        result.faults.append(f"{what}: {error}"[:200])


def on_full_device(bench, result, name):
    with open("/dev/full", "w") as full:
        with_outputs(bench, result, f"{name} on a full disk", **{name: full})


def on_closed_pipe(bench, result, name):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with_outputs(bench, result, f"{name} a closed pipe", **{name: writer})
    finally:
        os.close(writer)


def on_unread_pipe(bench, result, name):
    reader, writer = os.pipe()
    # Full before the server writes to it, so that the first line would block.
    os.set_blocking(writer, False)
    try:
        while os.write(writer, bytes(4096)):
            pass
    except BlockingIOError:
        os.set_blocking(writer, True)
    try:
        with_outputs(bench, result, f"{name} a pipe that nobody reads", **{name: writer})
    finally:
        os.close(writer)
        os.close(reader)


@check("outputs-stdout-full")
def stdout_full(bench, result):
    """stdout is a full disk when the server says that it is ready. A print that panics ends it there, with code 101."""
    on_full_device(bench, result, "stdout")


@check("outputs-stdout-closed")
def stdout_closed(bench, result):
    """stdout is a closed pipe, as behind `| head`."""
    on_closed_pipe(bench, result, "stdout")


@check("outputs-stdout-unread")
def stdout_unread(bench, result):
    """stdout is a full pipe that nobody reads."""
    on_unread_pipe(bench, result, "stdout")


@check("outputs-stderr-full")
def stderr_full(bench, result):
    """The log is a full disk. A log line that panics takes the load with it that it belongs to: the model loads for ever."""
    on_full_device(bench, result, "stderr")


@check("outputs-stderr-closed")
def stderr_closed(bench, result):
    """The log is a closed pipe."""
    on_closed_pipe(bench, result, "stderr")


@check("outputs-stderr-unread")
def stderr_unread(bench, result):
    """The log is a full pipe that nobody reads. A log line that blocks holds a thread of the server for ever; SIGTERM has no
    effect when the drain logs too."""
    on_unread_pipe(bench, result, "stderr")


@check("outputs-disk-fills")
def disk_fills(bench, result):
    """The disk with the log fills while the server serves, and has room again later: what was asked for meanwhile must not be lost
    for ever. Needs the right to mount a small file system."""
    (bench.folder / "avatars/broken").mkdir(exist_ok=True)
    disk = bench.folder / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True
    ).returncode:
        raise trial.Skip("mounting a file system is not permitted here")
    filling = disk / "filling"
    try:
        with open(disk / "log", "w") as log, bench.server(models=BROKEN, stderr=log) as under_test:
            fill(filling)
            provoke(under_test, result, "disk full")
            filling.unlink()
            time.sleep(0.5)
            provoke(under_test, result, "room again")
            fill(filling)
            trial.judge_drain(result, under_test, may_use_grace=False)
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def fill(path):
    try:
        with open(path, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        return
