#!/usr/bin/env bash
# Builds the release twice, from the same commit in two directories of different names, and compares
# the bytes: scripts/reproducible.sh [DIRECTORY]. Twice the time of a release build, 6 GB of disk in
# DIRECTORY (default: below TMPDIR), which is removed; NICE=10 by default.
#
# What is held still: the toolchain (rust-toolchain.toml), the crates (Cargo.lock), the commit, the time
# (SOURCE_DATE_EPOCH: the commit's), the paths, which the compilers are told to call /src, /cargo and
# /target. What is not: the C compiler, which is this machine's.
set -euo pipefail
cd "$(dirname "$0")/.."

# As others would build it: of what is committed, and of nothing else.
commit=$(git rev-parse --short=12 HEAD)
epoch=$(git show -s --format=%ct HEAD)
if [[ -n $(git status --porcelain --untracked-files=no) ]]; then
  echo "note: what is not committed is not built" >&2
fi
place=$(mktemp -d "${1:-${TMPDIR:-/tmp}}/hedgerow-reproducible-XXXXXX")
trap 'rm -rf "$place"' EXIT
cargo_home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$(rustc --print sysroot)

build() {
  local directory=$place/$1
  mkdir -p "$directory/source"
  git archive "$commit" | tar -x -C "$directory/source"
  (
    cd "$directory/source"
    renamed=("$directory/source=/src" "$directory/target=/target" "$cargo_home=/cargo" "$sysroot=/rust")
    export CARGO_ENCODED_RUSTFLAGS
    CARGO_ENCODED_RUSTFLAGS=$(printf -- '--remap-path-prefix=%s\x1f' "${renamed[@]}")
    CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS%$'\x1f'}
    unset RUSTFLAGS
    CFLAGS=$(printf -- '-ffile-prefix-map=%s ' "${renamed[@]}")
    export CFLAGS CXXFLAGS=$CFLAGS
    export SOURCE_DATE_EPOCH=$epoch ZERO_AR_DATE=1 HEDGEROW_COMMIT=$commit CARGO_INCREMENTAL=0
    export CARGO_TARGET_DIR=$directory/target LC_ALL=C TZ=UTC
    nice -n "${NICE:-10}" cargo build --locked --release --quiet --bin hedgerow
  )
  cp "$directory/target/release/hedgerow" "$place/hedgerow-$1"
  rm -rf "$directory"
}

build a
build another-directory
(cd "$place" && sha256sum hedgerow-a hedgerow-another-directory)
if cmp --silent "$place/hedgerow-a" "$place/hedgerow-another-directory"; then
  echo "reproducible: commit $commit, $(rustc --version), $(cc --version | head -n 1)"
else
  echo "NOT reproducible: $(cmp -l "$place/hedgerow-a" "$place/hedgerow-another-directory" | wc -l) bytes differ" >&2
  # The place is what helps to find out why.
  trap - EXIT
  echo "both are in $place" >&2
  exit 1
fi
for path in "$place" "$cargo_home" "$HOME/"; do
  if grep --quiet --fixed-strings -- "$path" "$place/hedgerow-a"; then
    echo "NOTE: the binary names the directory $path" >&2
  fi
done
