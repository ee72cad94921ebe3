#!/usr/bin/env python3
"""Prints the bill of materials of the hedgerow binary: CycloneDX 1.6, JSON.

Made from `cargo metadata` (what is linked for Linux, development crates left out) and Cargo.lock
(checksums). The same lock file gives the same bytes: no time, no random serial number.
"""

import json
import pathlib
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = "x86_64-unknown-linux-gnu"


def metadata():
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def linked(graph, root):
    """Ids of the packages that the root is made of, with what each depends on."""
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    found, waiting = {}, [root]
    while waiting:
        package = waiting.pop()
        if package in found:
            continue
        kinds = nodes[package]["deps"]
        found[package] = sorted(
            dep["pkg"]
            for dep in kinds
            # `null` is an ordinary dependency; `build` runs at compile time and is part of how it is made.
            if any(kind["kind"] in (None, "build") for kind in dep["dep_kinds"])
        )
        waiting.extend(found[package])
    return found


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, checksums):
    entry = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
    }
    if package.get("license"):
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return entry


def main():
    graph = metadata()
    packages = {package["id"]: package for package in graph["packages"]}
    root = graph["resolve"]["root"]
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    checksums = {(p["name"], p["version"]): p.get("checksum") for p in lock["package"]}
    found = linked(graph, root)
    order = sorted((packages[package] for package in found if package != root), key=purl)
    own = packages[root]
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": purl(own),
                "name": own["name"],
                "version": own["version"],
                "licenses": [{"expression": own["license"]}],
            },
            "properties": [{"name": "cargo:target", "value": TARGET}],
        },
        "components": [component(package, checksums) for package in order],
        "dependencies": sorted(
            (
                {"ref": purl(packages[package]), "dependsOn": [purl(packages[dep]) for dep in deps]}
                for package, deps in found.items()
            ),
            key=lambda entry: entry["ref"],
        ),
    }
    json.dump(bom, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
