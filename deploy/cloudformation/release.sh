#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Puts all that instances install into one archive: wheels of GenTwoo and of what it needs, units, and the programs
# in instance/. An instance then starts without PyPI, and each starts with the same.
#
#   deploy/cloudformation/release.sh gentwoo-aws.tar.gz           for the Python of .venv (3.11: Debian 12)
#   PYTHON=/usr/bin/python3.13 deploy/cloudformation/release.sh gentwoo-aws.tar.gz      Debian 13
#
# `make setup` first. Prints the archive's SHA-256, which is the parameter ReleaseDigest.
set -eu

[ $# -eq 1 ] || { echo "usage: $0 ARCHIVE" >&2; exit 2; }
archive=$(realpath "$1")
root=$(realpath "$(dirname "$0")/../..")
cd "$root"
python=${PYTHON:-.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/fetched" "$work/release" "$work/release/wheels"

# What is committed, as `make dist` makes it, though without touching the overlay.
.venv/bin/python -c 'import pathlib, sys, dev.dist; dev.dist.build(pathlib.Path(sys.argv[1]))' "$work/dist"
wheel=$(echo "$work"/dist/*.whl)
cp "$wheel" "$work/release/wheels"

# The versions of the lock; what was fetched is held against its hashes by ourselves, since pip would not take
# a wheel of ours, which has none there, besides.
sed -n 's/^\([A-Za-z0-9._-]*\(\[[a-z,]*\]\)\{0,1\}==[^ \\]*\).*/\1/p' requirements.lock | sed 's/\[[a-z,]*\]//' >"$work/constraints"
"$python" -m pip download --quiet --dest "$work/fetched" --no-build-isolation --constraint "$work/constraints" \
    "$wheel[collector,builder,postgresql,amqp,s3]"
for file in "$work"/fetched/*; do
    case ${file##*/} in gentwoo-*) rm "$file"; continue ;; esac
    digest=$(sha256sum "$file")
    grep -q "sha256:${digest%% *}" requirements.lock || { echo "${file##*/} is not in requirements.lock" >&2; exit 1; }
done
"$python" -m pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir "$work/release/wheels" "$work"/fetched/*

cp -r systemd deploy/cloudformation/instance "$work/release"
find "$work/release" -name __pycache__ -prune -exec rm -r {} +
tar -C "$work/release" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - . | gzip -n >"$archive"
sha256sum "$archive"
