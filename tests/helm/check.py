"""Renders the charts with Helm's own engine and holds what is rendered to what was promised.

  make helm [ARGS=--update]

--update writes the golden files anew. With a binary, the rendered configuration and policies go
through `hedgerow check`.
"""

import argparse
import asyncio
import copy
import difflib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import helm_sdkpy
import kubernetes_validate
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import admission  # noqa: E402
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
CONSOLE = {"enabled": True, "audit": {"existingClaim": "hedgerow-audit"}, "tls": {"secret": "console-tls"}}
CLAIM = {"hedgerow": {"audit": {"existingClaim": "hedgerow-audit"}}}
CASES.append(("console", "helm/hedgerow", {"console": {
    "enabled": True, "plainHttp": True, "hosts": ["audit.example.com"],
    "audit": {"volume": {"csi": {"driver": "s3.csi.example.com", "readOnly": True}}},
    "networkPolicy": {"from": [{"podSelector": {"matchLabels": {"app": "ingress"}}}]}}}))
CASES.append(("example-claim", "helm/example", CLAIM))
REFUSED = [  # values that the schema or the chart must refuse
    {"console": CONSOLE | {"audit": {}}},
    {"console": CONSOLE | {"tls": {}}},
    {"console": CONSOLE | {"requireClaim": "auditor"}},
    {"console": CONSOLE | {"memory": "1Gi"}},
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


async def render(chart: str, values: dict, kubeconfig: str) -> tuple[str, str]:
    """The manifests, and those of `helm test`."""
    configuration = helm_sdkpy.Configuration(namespace="apps", kubeconfig=kubeconfig)
    release = await helm_sdkpy.Install(configuration).run("demo", str(ROOT / chart), values=values, wait=False)
    hooks = "".join(f"---\n{hook['manifest']}\n" for hook in release.get("hooks") or [])
    return release.get("manifest", ""), hooks


def sidecars(manifest: dict):
    """Pod specs with the sidecar in a manifest."""
    spec = manifest.get("spec", {})
    pod = spec.get("template", {}).get("spec", spec)
    return [(pod, c) for c in pod.get("initContainers", []) if c["name"] == "hedgerow"]


def check_restricted(name: str, container: dict):
    security = container["securityContext"]
    restricted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True}
    expect(all(security.get(k) == v for k, v in restricted.items()), f"{name}: not restricted")
    expect(security["capabilities"] == {"drop": ["ALL"]}, f"{name}: capabilities")
    expect(security["seccompProfile"] == {"type": "RuntimeDefault"}, f"{name}: system calls")
    expect("cpu" not in container["resources"]["limits"], f"{name}: a CPU limit throttles")


def check_sidecar(name: str, pod: dict, sidecar: dict):
    expect(sidecar.get("restartPolicy") == "Always", f"{name}: the sidecar is no native one")
    expect("lifecycle" not in sidecar, f"{name}: the sidecar has a hook")
    expect("startupProbe" in sidecar, f"{name}: the application does not wait for the sidecar")
    check_restricted(name, sidecar)
    expect(pod.get("terminationGracePeriodSeconds", 30) > 25, f"{name}: the pod ends before the drain")
    secrets = {v["name"] for v in pod["volumes"] if "secret" in v}
    others = [c for c in pod["containers"] + pod["initContainers"] if c["name"] != "hedgerow"]
    mounted = {m["name"] for c in others for m in c.get("volumeMounts", [])}
    expect(not secrets & mounted, f"{name}: the Secret is mounted outside the sidecar")
    shared = any("persistentVolumeClaim" in v for v in pod["volumes"])
    own = [m for m in sidecar["volumeMounts"] if m.get("subPathExpr") == "$(POD_NAME)"]
    expect(bool(own) == shared, f"{name}: two pods would write into one audit directory")


def check_console(name: str, documents: list[dict]):
    """It reads records and policies, and has nothing of the sidecars' secrets."""
    of = [d for d in documents if d["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "console"]
    by_kind = {d["kind"]: d for d in of}
    expect(set(by_kind) == {"ConfigMap", "Deployment", "Service", "NetworkPolicy"}, f"{name}: the console is {set(by_kind)}")
    template = by_kind["Deployment"]["spec"]["template"]
    [container] = template["spec"]["containers"]
    check_restricted(f"{name}: console", container)
    expect(template["spec"]["automountServiceAccountToken"] is False, f"{name}: the console has an API token")
    expect(all(m.get("readOnly") for m in container["volumeMounts"]), f"{name}: the console may write")
    secrets = [v["secret"]["secretName"] for v in template["spec"]["volumes"] if "secret" in v]
    expect(secrets in ([], ["console-tls"]), f"{name}: the console has {secrets}")
    expect("env" not in container and "envFrom" not in container, f"{name}: the console has variables")
    text = by_kind["ConfigMap"]["data"]["hedgerow.yaml"]
    expect("password" not in text and "signing_key" not in text, f"{name}: the console's configuration names secrets")
    expect(("--plain-http" in container["args"]) != any(a.startswith("--tls-cert") for a in container["args"]), f"{name}: TLS")
    selector = by_kind["Deployment"]["spec"]["selector"]["matchLabels"]
    for kind, found in {"Service": by_kind["Service"]["spec"]["selector"],
                        "NetworkPolicy": by_kind["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
                        "template": template["metadata"]["labels"]}.items():
        expect(selector.items() <= found.items(), f"{name}: the {kind} selects another console")


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
    """What is rendered is what the binary accepts: the sidecars' configuration and the console's."""
    maps = [d.get("data") or {} for d in documents if d["kind"] == "ConfigMap"]
    policies = next(data for data in maps if "app.yaml" in data)
    for configuration in (data["hedgerow.yaml"] for data in maps if "hedgerow.yaml" in data):
        with tempfile.TemporaryDirectory() as place:
            place = pathlib.Path(place)
            for folder in ("policies", "secrets"):
                (place / folder).mkdir()
            for file, text in policies.items():
                (place / "policies" / file).write_text(text)
            if "/run/secrets/hedgerow" in configuration:
                (place / "secrets/password").write_text("x\n")
                key = place / "secrets/audit-ed25519.pem"
                subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
            text = configuration.replace("/etc/hedgerow-policies", f"{place}/policies")
            text = text.replace("/var/lib/hedgerow", f"{place}/state").replace("/run/secrets/hedgerow", f"{place}/secrets")
            (place / "hedgerow.yaml").write_text(text)
            run = subprocess.run([binary, "check", "--config", place / "hedgerow.yaml"], capture_output=True, text=True)
            expect(run.returncode == 0, f"{name}: hedgerow check says\n{run.stdout}{run.stderr}")


def check_metrics(where: str, expressions: list[str]):
    """Every metric that is asked for is one that the binary has."""
    known = (ROOT / "docs/metrics.md").read_text()
    for metric in sorted({m for e in expressions for m in re.findall(r"\bhedgerow_\w+", e)}):
        base = re.sub(r"_(bucket|sum|count)$", "", metric)
        there = f"| `{metric}` |" in known or f"| `{base}` | histogram |" in known
        expect(there, f"{where}: no such metric: {metric}")


def expressions(value) -> list[str]:
    """Every query below a value of a dashboard."""
    if isinstance(value, list):
        return [e for item in value for e in expressions(item)]
    if isinstance(value, dict):
        own = [value[key] for key in ("expr", "query") if isinstance(value.get(key), str)]
        return own + [e for item in value.values() for e in expressions(item)]
    return []


def check_dashboard(documents: list[dict]):
    maps = [d.get("data") or {} for d in documents if d["kind"] == "ConfigMap"]
    boards = [data["hedgerow.json"] for data in maps if "hedgerow.json" in data]
    for board in boards:
        asked = expressions(json.loads(board))
        expect(len(asked) > 10, "the dashboard asks nothing")
        check_metrics("dashboard", asked)


def check_rules(documents: list[dict]):
    promtool = shutil.which("promtool")
    for document in documents:
        if document["kind"] != "PrometheusRule":
            continue
        rules = [rule for group in document["spec"]["groups"] for rule in group["rules"]]
        check_metrics("rules", [rule["expr"] for rule in rules])
        tests = ROOT / "tests/helm/rules_test.yaml"
        tested = {test["name"] for test in yaml.safe_load(tests.read_text())["tests"]}
        expect(tested == {rule["alert"] for rule in rules}, f"rules_test.yaml tests {sorted(tested)}")
        if not promtool:
            print("  promtool is not installed: the rules' expressions were not checked")
            return
        with tempfile.TemporaryDirectory() as place:
            (pathlib.Path(place) / "rules.yaml").write_text(yaml.safe_dump(document["spec"]))
            shutil.copy(tests, place)
            for arguments in (["check", "rules", "rules.yaml"], ["test", "rules", "rules_test.yaml"]):
                run = subprocess.run([promtool, *arguments], cwd=place, capture_output=True, text=True)
                expect(run.returncode == 0, f"promtool: {run.stdout}{run.stderr}")


def validate(name: str, document: dict):
    if document["kind"] in CUSTOM:
        return
    for version in VERSIONS.get(document["kind"], ["1.30", "1.36", "1.37"]):
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            faults.append(f"{name}: {document['kind']} on {version}: {error}")


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
        rendered, tests = {}, {}
        for name, chart, values in CASES:
            text, hooks = await render(chart, values, kubeconfig.name)
            documents = rendered[name] = [d for d in yaml.safe_load_all(text) if d]
            tests[name] = [d for d in yaml.safe_load_all(hooks) if d]
            print(f"  {name}: {len(documents)} manifests")
            expect(bool(documents) != (name == "disabled"), f"{name}: {len(documents)} manifests")
            for document in documents + tests[name]:
                validate(name, document)
                for pod, sidecar in sidecars(document) if document in documents else []:
                    check_sidecar(name, pod, sidecar)
            expect(any(sidecars(d) for d in documents) == name.startswith("example"), f"{name}: sidecars")
            check_golden(name, text + hooks, arguments.update)
            check_rules(documents)
            check_dashboard(documents)
            if values.get("console"):
                check_console(name, documents)
            if name == "all" and arguments.binary:
                check_configuration(name, documents, arguments.binary)
        [deployment] = [d for d in rendered["example-claim"] if d["kind"] == "Deployment"]
        example = {"apiVersion": "v1", "kind": "Pod"} | copy.deepcopy(deployment["spec"]["template"])
        [test] = tests["all"]
        for injected in admission.check(rendered["all"], example, test, expect):
            validate("injected", injected)
        for values in REFUSED:
            try:
                await render("helm/hedgerow", values, kubeconfig.name)
            except helm_sdkpy.HelmError:
                continue
            faults.append(f"the chart accepts {json.dumps(values)}")
    for fault in faults:
        print(f"FAULT {fault}", file=sys.stderr)
    print(f"charts: {len(CASES)} cases, {len(REFUSED)} refusals, {len(faults)} faults")
    sys.exit(bool(faults))


asyncio.run(main())
