"""The admission policies, evaluated: their CEL expressions on pods, as the API server would.

The evaluator is the CEL of PyPI's `common-expression-language`, not the API server's; what is Kubernetes' own
(`JSONPatch{…}`, `jsonpatch.escapeKey`) is put into plain CEL first.
"""

import copy
import json
import re

import cel

SECRET = "hedgerow-upstream"


def evaluate(expression: str, names: dict):
    return cel.evaluate(expression, names)


def refusals(policy: dict, pod: dict) -> list[str]:
    """The messages of the validations that the pod does not pass."""
    names = {"object": pod, "variables": {}}
    for condition in policy["spec"].get("matchConditions", []):
        if not evaluate(condition["expression"], names):
            return []
    for variable in policy["spec"].get("variables", []):
        names["variables"][variable["name"]] = evaluate(variable["expression"], names)
    return [v["message"] for v in policy["spec"]["validations"] if not evaluate(v["expression"], names)]


def plain(expression: str) -> str:
    """Kubernetes' own words as plain CEL."""
    escape = lambda found: json.dumps(found.group(1).replace("~", "~0").replace("/", "~1"))
    expression = re.sub(r'jsonpatch\.escapeKey\("([^"]*)"\)', escape, expression)
    return re.sub(r"JSONPatch\{op: (\S+), path: (.+?), value: ", r'{"op": \1, "path": \2, "value": ', expression)


def inject(policy: dict, pod: dict) -> dict | None:
    """The pod as the mutating policy makes it; None where it does not match."""
    names = {"object": pod}
    for condition in policy["spec"]["matchConditions"]:
        if not evaluate(condition["expression"], names):
            return None
    made = copy.deepcopy(pod)
    for mutation in policy["spec"]["mutations"]:
        for patch in evaluate(plain(mutation["jsonPatch"]["expression"]), names):
            assert patch["op"] == "add", patch
            *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in patch["path"].split("/")[1:]]
            place = made
            for part in parents:
                place = place[int(part)] if isinstance(place, list) else place[part]
            if isinstance(place, list):
                place.insert(len(place) if last == "-" else int(last), patch["value"])
            else:
                place[last] = patch["value"]
    return made


def pod(labels: dict | None = None, containers=None, initial=None, volumes=None, **more) -> dict:
    spec = {"containers": containers or [{"name": "app", "image": "example/app:1"}], **more}
    if initial is not None:
        spec["initContainers"] = initial
    if volumes is not None:
        spec["volumes"] = volumes
    metadata = {"name": "p"} | ({"labels": labels} if labels is not None else {})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def check(documents: list[dict], example: dict, test: dict, expect):
    """`documents`: of the chart with everything on. `example`: the example's pod with its sidecar. `test`: the
    pod of `helm test`."""
    by_kind = {d["kind"]: d for d in documents}
    validating, mutating = by_kind["ValidatingAdmissionPolicy"], by_kind["MutatingAdmissionPolicy"]

    def admitted(name: str, pod: dict):
        said = refusals(validating, pod)
        expect(not said, f"admission refuses {name}: {said}")

    def refused(name: str, pod: dict, why: str):
        said = refusals(validating, pod)
        expect(any(why in message for message in said), f"admission of {name}: {said}, not {why!r}")

    def changed(change) -> dict:
        other = copy.deepcopy(example)
        change(other)
        return other

    admitted("the example's pod", example)
    admitted("a pod that has nothing to do with it", pod())
    admitted("a pod with other labels", pod({"app": "x"}))
    admitted("the pod of helm test", test)

    def without_sidecar(p):
        p["spec"]["initContainers"] = []

    refused("a labelled pod without its sidecar", changed(without_sidecar), "no sidecar")
    refused("a labelled pod without init containers", pod({"hedgerow.dev/inject": "enabled"}), "no sidecar")
    refused("a pod that calls its own image so", changed(
        lambda p: p["spec"]["initContainers"][0].update(image="evil/hedgerow:1")), "no sidecar")
    refused("an init container that ends", changed(lambda p: p["spec"]["initContainers"][0].pop("restartPolicy")), "no sidecar")
    app = lambda p: p["spec"]["containers"][0]
    refused("the Secret in the application", changed(
        lambda p: app(p).update(volumeMounts=[{"name": "hedgerow-secret", "mountPath": "/s"}])), "may mount the Secret")
    secret = [{"name": "s", "secret": {"secretName": SECRET}}]
    mounts = [{"name": "app", "image": "x:1", "volumeMounts": [{"name": "s", "mountPath": "/s"}]}]
    refused("the Secret in a pod without labels", pod(containers=mounts, volumes=secret), "may mount the Secret")
    projected = [{"name": "s", "projected": {"sources": [{"secret": {"name": SECRET}}]}}]
    refused("the Secret, projected", pod(containers=mounts, volumes=projected), "may mount the Secret")
    other = [{"name": "s", "secret": {"secretName": "another"}}, {"name": "e", "emptyDir": {}}]
    admitted("another Secret", pod(containers=mounts, volumes=other))
    by_name = {"name": "hedgerow", "image": "x:1", "volumeMounts": mounts[0]["volumeMounts"]}
    refused("the Secret under the sidecar's name", pod(initial=[by_name], volumes=secret), "may mount the Secret")
    refused("the Secret in a container that is put in later", changed(lambda p: p["spec"].update(ephemeralContainers=[
        {"name": "debug", "image": "x:1", "volumeMounts": [{"name": "hedgerow-secret", "mountPath": "/s"}]}])), "may mount")
    variable = lambda name: [{"name": "P", "valueFrom": {"secretKeyRef": {"name": name, "key": "password"}}}]
    refused("the Secret in a variable", changed(lambda p: app(p).update(env=variable(SECRET))), "may read the Secret")
    admitted("another Secret in a variable", changed(lambda p: app(p).update(env=variable("another") + [{"name": "A", "value": "b"}])))
    refused("the Secret in all variables", changed(lambda p: app(p).update(envFrom=[{"secretRef": {"name": SECRET}}])), "may read")
    admitted("a ConfigMap in all variables", changed(lambda p: app(p).update(envFrom=[{"configMapRef": {"name": "c"}}])))
    refused("one process namespace", changed(lambda p: p["spec"].update(shareProcessNamespace=True)), "process namespace")
    refused("the node's processes", changed(lambda p: p["spec"].update(hostPID=True)), "process namespace")
    admitted("one process namespace elsewhere", pod(shareProcessNamespace=True))
    debug = lambda target: [{"name": "debug", "image": "x:1", "targetContainerName": target}]
    refused("a debugger in the sidecar", changed(lambda p: p["spec"].update(ephemeralContainers=debug("hedgerow"))), "process")
    admitted("a debugger in the application", changed(lambda p: p["spec"].update(ephemeralContainers=debug("orders"))))
    records = lambda **more: [{"name": "hedgerow-audit", "mountPath": "/a", **more}]
    refused("an application that writes records", changed(lambda p: app(p).update(volumeMounts=records())), "read-only")
    admitted("an application that reads records", changed(lambda p: app(p).update(volumeMounts=records(readOnly=True))))

    wants = {"hedgerow.dev/inject": "enabled", "app": "x"}
    own = {"name": "own", "image": "x:1"}
    injected = []
    for name, before in {
        "bare": pod(wants),
        "with lists": pod(wants, initial=[own], volumes=[{"name": "e", "emptyDir": {}}], securityContext={}),
        "with a group": pod(wants, securityContext={"fsGroup": 1000}),
    }.items():
        after = inject(mutating, before)
        expect(after is not None, f"injection passes over the pod {name}")
        expect(after["spec"]["initContainers"][0]["name"] == "hedgerow", f"{name}: the sidecar is not the first")
        expect(after["metadata"]["labels"].items() >= wants.items(), f"{name}: labels are lost")
        expect(after["metadata"]["labels"].get("hedgerow.dev/sidecar") == "true", f"{name}: not labelled")
        group = before["spec"].get("securityContext", {}).get("fsGroup", 65532)
        expect(after["spec"]["securityContext"]["fsGroup"] == group, f"{name}: the sidecar cannot read its Secret")
        expect(after["spec"]["containers"] == before["spec"]["containers"], f"{name}: the application was changed")
        expect(all(v in after["spec"]["volumes"] for v in before["spec"].get("volumes", [])), f"{name}: volumes are lost")
        expect(inject(mutating, after) is None, f"{name}: injected twice")
        admitted(f"the injected pod {name}", after)
        injected.append(after)
    for name, before in {"other": pod({"app": "x"}), "off": pod({"hedgerow.dev/inject": "disabled"}), "none": pod()}.items():
        expect(inject(mutating, before) is None, f"injection takes the pod {name}")
    return injected
