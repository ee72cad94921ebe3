"""A Kubernetes API that says yes: enough for Helm's engine to render and "install" a chart.

Discovery names the kinds that our charts use; what is posted comes back as it was. Nothing runs.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GROUPS = {
    "v1": [("configmaps", "ConfigMap"), ("secrets", "Secret"), ("pods", "Pod"), ("services", "Service"),
           ("namespaces", "Namespace"), ("serviceaccounts", "ServiceAccount")],
    "apps/v1": [("deployments", "Deployment")],
    "networking.k8s.io/v1": [("networkpolicies", "NetworkPolicy")],
    "admissionregistration.k8s.io/v1": [
        ("validatingadmissionpolicies", "ValidatingAdmissionPolicy"),
        ("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding"),
        ("mutatingadmissionpolicies", "MutatingAdmissionPolicy"),
        ("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding"),
    ],
    "monitoring.coreos.com/v1": [("podmonitors", "PodMonitor"), ("prometheusrules", "PrometheusRule")],
}
CLUSTER_WIDE = {"Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
                "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"}
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


def discovery(path: str):
    """The answer to a discovery request, or None."""
    if path == "/version":
        return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        names = sorted({group.split("/")[0] for group in GROUPS if "/" in group})
        versions = lambda name: [{"groupVersion": g, "version": g.split("/")[1]} for g in GROUPS if g.startswith(name + "/")]
        return {"kind": "APIGroupList", "apiVersion": "v1",
                "groups": [{"name": n, "versions": versions(n), "preferredVersion": versions(n)[0]} for n in names]}
    for group, kinds in GROUPS.items():
        if path == ("/api/v1" if group == "v1" else f"/apis/{group}"):
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": [
                {"name": name, "singularName": kind.lower(), "namespaced": kind not in CLUSTER_WIDE,
                 "kind": kind, "verbs": VERBS} for name, kind in kinds]}
    return None


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes, kind: str = "application/json"):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path = self.path.split("?")[0].rstrip("/")
        found = discovery(path)
        if found is None and path.endswith("/secrets"):
            found = {"kind": "SecretList", "apiVersion": "v1", "metadata": {}, "items": []}
        if found is None:
            found = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        self.answer(found.get("code", 200) if found.get("kind") == "Status" else 200, json.dumps(found).encode())

    def echo(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.answer(200 if self.command != "POST" else 201, body, self.headers.get("content-type", "application/json"))

    do_POST = do_PUT = do_PATCH = do_DELETE = echo

    def log_message(self, *_):
        pass


def start() -> str:
    """Serves on a free port; returns the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"
