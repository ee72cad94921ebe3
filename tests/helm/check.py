"""Renders the charts with Helm's own engine and holds what is rendered to what was promised.

  make helm [ARGS=--update]

--update writes the golden files anew. With a binary, the rendered configuration and policies go
through `hedgerow check`.
"""

import argparse
import asyncio
import difflib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import helm_sdkpy
import kubernetes_validate
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import fake_api  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/helm/golden"
ALL = yaml.safe_load((ROOT / "helm/hedgerow/ci/all-values.yaml").read_text())
CASES = [  # name, chart, values
    ("default", "helm/hedgerow", {}),
    ("all", "helm/hedgerow", ALL),
    ("disabled", "helm/hedgerow", {"enabled": False}),
    ("global", "helm/hedgerow", {"global": {"region": "eu"}}),
    ("example", "helm/example", {}),
    ("example-digest", "helm/example", {"hedgerow": {"image": {"digest": "sha256:" + "0" * 64}, "extraArgs": ["--log-format=text"]}}),
]
REFUSED = [  # values that the schema must refuse
    {"enabled": "yes"},
    {"unknown": 1},
    {"networkPolicy": {"database": {"port": 70000}}},
    {"sidecar": {"image": {"digest": "sha256:short"}}},
    {"policies": {"../escape": {}}},
    {"config": {"identity": None}},
]
# Custom resources have no schema in Kubernetes itself.
CUSTOM = {"PodMonitor", "PrometheusRule"}
VERSIONS = {"MutatingAdmissionPolicy": ["1.36", "1.37"], "MutatingAdmissionPolicyBinding": ["1.36", "1.37"]}
faults: list[str] = []


def expect(condition: bool, fault: str):
    if not condition:
        faults.append(fault)


async def render(chart: str, values: dict, kubeconfig: str) -> str:
    configuration = helm_sdkpy.Configuration(namespace="apps", kubeconfig=kubeconfig)
    release = await helm_sdkpy.Install(configuration).run("demo", str(ROOT / chart), values=values, wait=False)
    return release.get("manifest", "")


def sidecars(manifest: dict):
    """Pod specs with the sidecar in a manifest."""
    spec = manifest.get("spec", {})
    pod = spec.get("template", {}).get("spec", spec)
    return [(pod, c) for c in pod.get("initContainers", []) if c["name"] == "hedgerow"]


def check_sidecar(name: str, pod: dict, sidecar: dict):
    expect(sidecar.get("restartPolicy") == "Always", f"{name}: the sidecar is no native one")
    expect("lifecycle" not in sidecar, f"{name}: the sidecar has a hook")
    expect("startupProbe" in sidecar, f"{name}: the application does not wait for the sidecar")
    security = sidecar["securityContext"]
    restricted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True}
    expect(all(security.get(k) == v for k, v in restricted.items()), f"{name}: not restricted")
    expect(security["capabilities"] == {"drop": ["ALL"]}, f"{name}: capabilities")
    expect("cpu" not in sidecar["resources"]["limits"], f"{name}: a CPU limit throttles")
    expect(pod.get("terminationGracePeriodSeconds", 30) > 25, f"{name}: the pod ends before the drain")
    secrets = {v["name"] for v in pod["volumes"] if "secret" in v}
    others = [c for c in pod["containers"] + pod["initContainers"] if c["name"] != "hedgerow"]
    mounted = {m["name"] for c in others for m in c.get("volumeMounts", [])}
    expect(not secrets & mounted, f"{name}: the Secret is mounted outside the sidecar")


def check_golden(name: str, text: str, update: bool):
    path = GOLDEN / f"{name}.yaml"
    if update:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    before = path.read_text() if path.is_file() else ""
    if before != text:
        diff = difflib.unified_diff(before.splitlines(), text.splitlines(), str(path), "rendered", lineterm="", n=2)
        faults.append(f"{name}: differs from its golden file (--update after a review)\n" + "\n".join(diff))


def check_configuration(name: str, documents: list[dict], binary: str):
    """What is rendered is what the binary accepts."""
    maps = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap" and "dashboard" not in d["metadata"]["name"]}
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        for data in maps.values():
            for file, text in data.items():
                folder = place if file == "hedgerow.yaml" else place / "policies"
                folder.mkdir(exist_ok=True)
                text = text.replace("/etc/hedgerow-policies", f"{place}/policies")
                text = text.replace("/var/lib/hedgerow", f"{place}/state").replace("/run/secrets/hedgerow", f"{place}/secrets")
                (folder / file).write_text(text)
        (place / "secrets").mkdir()
        (place / "secrets/password").write_text("x\n")
        key = place / "secrets/audit-ed25519.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
        run = subprocess.run([binary, "check", "--config", place / "hedgerow.yaml"], capture_output=True, text=True)
        expect(run.returncode == 0, f"{name}: hedgerow check says\n{run.stdout}{run.stderr}")


def check_rules(documents: list[dict]):
    promtool = shutil.which("promtool")
    for document in documents:
        if document["kind"] != "PrometheusRule":
            continue
        if not promtool:
            print("  promtool is not installed: the rules' expressions were not checked")
            return
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(document["spec"], file)
            file.flush()
            run = subprocess.run([promtool, "check", "rules", file.name], capture_output=True, text=True)
            expect(run.returncode == 0, f"promtool: {run.stdout}{run.stderr}")
            known = (ROOT / "docs/metrics.md").read_text()
            for rule in document["spec"]["groups"][0]["rules"]:
                for word in rule["expr"].replace("(", " ").replace("[", " ").replace("{", " ").replace(")", " ").split():
                    if word.startswith("hedgerow_"):
                        expect(f"`{word}`" in known, f"{rule['alert']}: no such metric: {word}")


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary")
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as kubeconfig:
        cluster = {"name": "c", "cluster": {"server": fake_api.start()}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context],
                        "current-context": "c", "users": [{"name": "u", "user": {}}]}, kubeconfig)
        kubeconfig.flush()
        for name, chart, values in CASES:
            text = await render(chart, values, kubeconfig.name)
            documents = [d for d in yaml.safe_load_all(text) if d]
            print(f"  {name}: {len(documents)} manifests")
            expect(bool(documents) != (name == "disabled"), f"{name}: {len(documents)} manifests")
            for document in documents:
                if document["kind"] in CUSTOM:
                    continue
                for version in VERSIONS.get(document["kind"], ["1.30", "1.36", "1.37"]):
                    try:
                        kubernetes_validate.validate(document, version, strict=True)
                    except kubernetes_validate.ValidationError as error:
                        faults.append(f"{name}: {document['kind']} on {version}: {error}")
                for pod, sidecar in sidecars(document):
                    check_sidecar(name, pod, sidecar)
            expect(any(sidecars(d) for d in documents) == name.startswith("example"), f"{name}: sidecars")
            check_golden(name, text, arguments.update)
            check_rules(documents)
            if name == "all" and arguments.binary:
                check_configuration(name, documents, arguments.binary)
        for values in REFUSED:
            try:
                await render("helm/hedgerow", values, kubeconfig.name)
            except helm_sdkpy.HelmError:
                continue
            faults.append(f"the schema accepts {json.dumps(values)}")
    for fault in faults:
        print(f"FAULT {fault}", file=sys.stderr)
    print(f"charts: {len(CASES)} cases, {len(REFUSED)} refusals, {len(faults)} faults")
    sys.exit(bool(faults))


asyncio.run(main())
