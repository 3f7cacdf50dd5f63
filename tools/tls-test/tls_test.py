"""Speaks TLS with the server by grpcio, `openssl s_client` and Chromium, with and without client certificates; prints a verdict.

Needs OpenSSL and the Python client. The browser needs Chromium, its driver, Selenium and certutil (Debian: chromium-driver,
libnss3-tools); what of it is missing is named, and its checks are left out. To show a certificate without asking, Chromium
needs a policy: as root, the test writes one for its own address to /etc/chromium/policies, and removes it.

    pip install ./clients/python selenium==4.51.0
    cargo build --release --bin lipsync-server
    python tools/tls-test/tls_test.py --server target/release/lipsync-server

Exit status 0: every check passed.
"""

import argparse
import hashlib
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
KEY = "key-of-the-tls-test"
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


def tenants(stack, binary, folder):
    """The name on a certificate is that of a tenant."""
    files = f"cert: {TLS}/server.pem, key: {TLS}/server-key.pem, client_ca: {TLS}/ca-2.pem"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    settings = (
        f"server: {{tls: {{{files}}}}}\noperations: {{tls: {{{files}}}}}\n"
        f"tenants:\n  one: {{certificates: [acme], models: [mira]}}\n  two: {{admin: true, keys: {{k: {{sha256: {digest}}}}}}}\n"
    )
    port, page = start(stack, binary, folder, settings)
    ours = channel(stack, port, "ca.pem", certificate=True)
    check("grpcio: the certificate's tenant calls without a key", models(ours) == ["mira"])
    unload = lambda more: rpc.ModelAdminStub(ours).UnloadModel(  # noqa: E731
        pb.UnloadModelRequest(model_id="mira"), timeout=10, metadata=more
    )
    try:
        unload(())
        code = "OK"
    except grpc.RpcError as error:
        code = error.code().name
    check("grpcio: it has that tenant's rights", code == "PERMISSION_DENIED", code)
    unload([("authorization", f"Bearer {KEY}")])
    check("grpcio: a key goes before the certificate", True)
    return page


def browser(stack, binary, folder, browsers):
    """Chromium trusts an authority, speaks, has the certificate swapped meanwhile, and shows one of its own."""
    for name, target in [("server.pem", "cert.pem"), ("server-key.pem", "key.pem")]:
        replace(TLS / name, folder / target)
    files = "{cert: cert.pem, key: key.pem}"
    _, page = start(stack, binary, folder, f"operations: {{tls: {files}, allowed_origins: []}}\n")
    url = f"https://localhost:{page}/"
    with ExitStack() as inner:
        stranger = browsers.Browser(inner, folder / "stranger", [TLS / "other-ca.pem"])
        why = stranger.open(url)
        check("Chromium: another authority is not trusted", "ERR_CERT_AUTHORITY_INVALID" in why, why)
    with ExitStack() as inner:
        visitor = browsers.Browser(inner, folder / "visitor", [TLS / "ca.pem", TLS / "ca-2.pem"])
        why = visitor.open(url)
        check("Chromium: the page opens over https", not why, why)
        visitor.connect()
        check("Chromium: it is a place where microphones may be used", visitor.driver.execute_script("return isSecureContext"))
        visitor.speak()
        check("Chromium: the avatar speaks over wss", True)
        replace(TLS / "server-2-key.pem", folder / "key.pem")
        replace(TLS / "server-2.pem", folder / "cert.pem")
        old = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
        while taken(page, old):
            time.sleep(0.1)
        check("Chromium: the certificate is swapped while she speaks", not visitor.rests(), "the sample is too short")
        visitor.until("she has spoken", visitor.rests)
        lost = [e for e in visitor.errors() if "WebSocket" in e]
        open_still = visitor.attribute("#connection", "data-state") == "open"
        check("Chromium: the session goes on", open_still and not lost, lost)
        check("Chromium: figures are fetched", visitor.fetch("/api/models") == 200)
        why = visitor.open(url)
        check("Chromium: the page opens with the new certificate", not why, why)
        visitor.connect()
    with ExitStack() as inner:
        behind = browsers.Browser(inner, folder / "behind", [TLS / "ca.pem"])
        why = behind.open(url)
        check("Chromium: the new certificate is the one that is shown", "ERR_CERT_AUTHORITY_INVALID" in why, why)


def taken(page, context):
    try:
        with socket.create_connection(("127.0.0.1", page)) as plain:
            context.wrap_socket(plain, server_hostname="localhost").close()
            return True
    except ssl.SSLError:
        return False


def mutual_browser(stack, folder, browsers, page):
    url = f"https://localhost:{page}/"
    with ExitStack() as inner:
        without = browsers.Browser(inner, folder / "without", [TLS / "ca.pem"])
        why = without.open(url)
        check("Chromium: without a certificate it does not come in", "ERR_" in why, why)
        print(f"     {why}")
    if not browsers.show_certificates_to(stack, page):
        return print("skipped: Chromium with a certificate (only root may write its policy)")
    shown = (TLS / "client.pem", TLS / "client-key.pem")
    with_it = browsers.Browser(stack, folder / "with", [TLS / "ca.pem"], shown)
    why = with_it.open(url)
    check("Chromium: with one it does", not why, why)
    with_it.connect()
    with_it.speak()
    check("Chromium: the certificate's tenant speaks without a key", True)
    found = with_it.fetch("/api/stats")
    check("Chromium: it has that tenant's rights", found == 403, found)


def browsers_here():
    """What drives Chromium, or why there is none."""
    try:
        import browser as browsers
    except ImportError as error:
        return None, f"{error}"
    for name in ["certutil", "pk12util", os.environ.get("CHROMIUM", "chromium")]:
        if not shutil.which(name):
            return None, f"there is no {name}"
    return browsers, ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="target/release/lipsync-server")
    binary = str(pathlib.Path(parser.parse_args().server).resolve())
    browsers, why = browsers_here()
    for test in [plain_tls, mutual_tls, tenants, browser]:
        with ExitStack() as stack:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
            if test is not browser:
                page = test(stack, binary, folder)
            elif browsers:
                test(stack, binary, folder, browsers)
            if test is tenants and browsers:
                mutual_browser(stack, folder, browsers, page)
    if not browsers:
        print(f"skipped: Chromium ({why})")
    n_failed = results.count(False)
    print(f"{len(results) - n_failed} of {len(results)} checks passed")
    raise SystemExit(1 if n_failed else 0)


if __name__ == "__main__":
    main()
