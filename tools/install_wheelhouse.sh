#!/bin/sh
# Joins the pieces beside it and installs what they hold, without a network: sh install.sh [PYTHON [PIP OPTION…]].
set -eu
cd "$(dirname "$0")"
python=${1:-python3}
[ "$#" -eq 0 ] || shift

sha256sum --quiet -c SHA256SUMS || {
    echo "A piece is missing or damaged (see above): copy it again." >&2
    exit 2
}
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
cat wheelhouse.tar.* | tar -x -C "$wheels" -f -
"$python" -m pip install --no-index --find-links "$wheels" -r "$wheels/requirements.txt" "$@"
