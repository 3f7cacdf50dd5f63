"""Speaks TLS with the server by grpcio and by `openssl s_client`, with and without client certificates; prints a verdict.

Needs OpenSSL and the Python client:

    pip install ./clients/python
    cargo build --release --bin lipsync-server
    python tools/tls-test/tls_test.py --server target/release/lipsync-server

Exit status 0: every check passed.
"""

import argparse
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.request
from contextlib import ExitStack

import grpc
from lipsync_client.v1 import lipsync_pb2 as pb
from lipsync_client.v1 import lipsync_pb2_grpc as rpc

ROOT = pathlib.Path(__file__).resolve().parents[2]
TLS = ROOT / "tests/data/tls"
PATIENCE_S = 60
results = []


def check(what, passed, found=""):
    results.append(passed)
    print(f"{'ok  ' if passed else 'FAIL'} {what}{'' if passed else f': {found}'}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def replace(source, target):
    draft = target.with_suffix(".draft")
    shutil.copy(source, draft)
    draft.rename(target)


def start(stack, binary, folder, settings):
    grpc_port, page = free_port(), free_port()
    config = folder / "config.yaml"
    config.write_text(
        f"models_root: {ROOT}/assets/avatars\ncapacity: {{bake: off}}\n"
        f"models: {{mira: {{path: mira, preload: true}}}}\n{settings}"
    )
    environment = {
        **os.environ,
        "LIPSYNC_SERVER__PORT": f"127.0.0.1:{grpc_port}",
        "LIPSYNC_OPERATIONS__PORT": f"127.0.0.1:{page}",
    }
    log = (folder / "log").open("w")
    command = [binary, "--config", str(config)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    for line in process.stdout:
        if b"gRPC" in line:
            break
    else:
        raise SystemExit((folder / "log").read_text())
    return grpc_port, page


def channel(stack, port, ca, certificate=None):
    read = lambda name: (TLS / name).read_bytes()  # noqa: E731
    key, chain = (read("client-key.pem"), read("client.pem")) if certificate else (None, None)
    credentials = grpc.ssl_channel_credentials(read(ca), key, chain)
    options = [("grpc.use_local_subchannel_pool", 1)]
    found = grpc.secure_channel(f"localhost:{port}", credentials, options)
    return stack.enter_context(found)


def models(of):
    answer = rpc.ModelAdminStub(of).ListModels(pb.ListModelsRequest(), timeout=10)
    return [model.model_id for model in answer.models]


def refused(of):
    try:
        return f"taken: {models(of)}" if models(of) else ""
    except grpc.RpcError as error:
        return "" if error.code() == grpc.StatusCode.UNAVAILABLE else str(error)


def s_client(port, *more):
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(TLS / "ca.pem")]
    command += ["-verify_return_error", *more]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=PATIENCE_S)
    return (done.stdout + done.stderr).decode(errors="replace")


def plain_tls(stack, binary, folder):
    for name, target in [("server.pem", "cert.pem"), ("server-key.pem", "key.pem")]:
        replace(TLS / name, folder / target)
    files = "{cert: cert.pem, key: key.pem}"
    port, page = start(stack, binary, folder, f"server: {{tls: {files}}}\noperations: {{tls: {files}}}\n")
    found = models(channel(stack, port, "ca.pem"))
    check("grpcio: a call over TLS", found == ["mira"], found)
    why = refused(channel(stack, port, "other-ca.pem"))
    check("grpcio: another authority is not trusted", not why, why)
    said = s_client(port, "-alpn", "h2")
    check("openssl: the chain is good", "Verify return code: 0 (ok)" in said, said)
    check("openssl: HTTP/2 is agreed on", "ALPN protocol: h2" in said, said)
    check("openssl: TLS 1.3 is spoken", "TLSv1.3" in said, said)
    said = s_client(port, "-tls1_2", "-alpn", "h2")
    check("openssl: TLS 1.2 is spoken", "Protocol  : TLSv1.2" in said, said)
    said = s_client(port, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    check("openssl: TLS 1.1 is not", "Cipher is (NONE)" in said, said)
    context = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
    with urllib.request.urlopen(f"https://localhost:{page}/livez", context=context) as answer:
        check("https: the probe answers", answer.read() == b"alive\n")
    swap(stack, port, folder)


def swap(stack, port, folder):
    """Replaces the certificate while one client calls without a pause and others connect anew."""
    lasting, stop, broken, n_calls = channel(stack, port, "ca.pem"), threading.Event(), [], [0]

    def call():
        while not stop.is_set():
            try:
                models(lasting)
                n_calls[0] += 1
            except grpc.RpcError as error:
                broken.append(str(error))

    calling = threading.Thread(target=call)
    calling.start()
    begun = time.monotonic()
    replace(TLS / "server-2-key.pem", folder / "key.pem")
    replace(TLS / "server-2.pem", folder / "cert.pem")
    while not refused(channel(stack, port, "ca-2.pem")) and time.monotonic() < begun + PATIENCE_S:
        time.sleep(0.1)
    took = time.monotonic() - begun
    found = models(channel(stack, port, "ca-2.pem"))
    stop.set()
    calling.join()
    check("a new certificate is taken", found == ["mira"], found)
    check("no call was broken by it", not broken and n_calls[0] > 0, broken)
    print(f"     {n_calls[0]} calls went on meanwhile; the new certificate was there after {took:.1f} s")


def mutual_tls(stack, binary, folder):
    files = f"cert: {TLS}/server.pem, key: {TLS}/server-key.pem, client_ca: {TLS}/ca-2.pem"
    port, _ = start(stack, binary, folder, f"server: {{tls: {{{files}, min_version: 1.3}}}}\n")
    found = models(channel(stack, port, "ca.pem", certificate=True))
    check("grpcio: a client with a certificate comes in", found == ["mira"], found)
    why = refused(channel(stack, port, "ca.pem"))
    check("grpcio: one without does not", not why, why)
    shown = ["-cert", str(TLS / "client.pem"), "-key", str(TLS / "client-key.pem")]
    said = s_client(port, *shown)
    check("openssl: the server asks for a certificate", "lipsync test authority 2" in said, said)
    said = s_client(port, "-tls1_2", *shown)
    check("openssl: TLS 1.2 is below the minimum", "Cipher is (NONE)" in said, said)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="target/release/lipsync-server")
    binary = str(pathlib.Path(parser.parse_args().server).resolve())
    for test in [plain_tls, mutual_tls]:
        with ExitStack() as stack:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            test(stack, binary, folder)
    n_failed = results.count(False)
    print(f"{len(results) - n_failed} of {len(results)} checks passed")
    raise SystemExit(1 if n_failed else 0)


if __name__ == "__main__":
    main()
