#!/usr/bin/env bash
# Makes the virtual environment, with the versions of constraints.txt: tools/install.sh FOLDER EXTRAS.
# Called by the Makefile; safe to run again.
set -euo pipefail
venv=$1 extras=$2

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer is needed, this is $(python3 --version)." >&2
    exit 1
fi

# System packages: libturbojpeg decodes JPEGs for --pipeline ffcv. FFCV's own package, which only tests and the bench
# use, compiles against headers that are not installed for it: where they are, it is built.
packages="libopencv-dev libturbojpeg0-dev pkg-config g++ python3-dev"
have_decoder() { python3 -c 'import ctypes; ctypes.CDLL("libturbojpeg.so.0")' 2>/dev/null; }
have_headers() { pkg-config --exists opencv4 libturbojpeg 2>/dev/null && command -v g++ >/dev/null; }
if ! have_decoder; then
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    if command -v apt-get >/dev/null && $sudo true 2>/dev/null; then
        echo "installing libturbojpeg0"
        DEBIAN_FRONTEND=noninteractive $sudo apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends libturbojpeg0 >/dev/null ||
            true
    fi
    have_decoder || echo "libturbojpeg is missing. For JPEGs with --pipeline ffcv run: sudo apt-get install libturbojpeg0" >&2
fi

[ -x "$venv/bin/python" ] || python3 -m venv "$venv" || {
    echo "python3 cannot make a virtual environment; run: sudo apt-get install python3-venv" >&2
    exit 1
}
"$venv/bin/pip" install -q -c constraints.txt -e ".[$extras]"

"$venv/bin/pip" install -q -c constraints.txt -e ".[dali]" ||
    echo "DALI is left out: pip found no wheel for this machine. All but --pipeline dali works." >&2
if have_headers; then
    "$venv/bin/pip" install -q -c constraints.txt -e ".[ffcv]" ||
        echo "FFCV's own package is left out: it did not build. Only tests and the bench compare with it." >&2
else
    echo "FFCV's own package is left out: its headers are missing. Only tests and the bench compare with it." >&2
    echo "To add it: sudo apt-get install $packages && make -B setup" >&2
fi
