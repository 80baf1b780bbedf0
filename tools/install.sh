#!/usr/bin/env bash
# Makes the virtual environment, with the versions of constraints.txt: tools/install.sh FOLDER EXTRAS.
# Called by the Makefile; safe to run again.
set -euo pipefail
venv=$1 extras=$2

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer is needed, this is $(python3 --version)." >&2
    exit 1
fi

# System packages: FFCV compiles against OpenCV and libjpeg-turbo; the decoder yardstick and ffcv load libturbojpeg.
packages="libopencv-dev libturbojpeg0-dev pkg-config g++ python3-dev"
have_headers() { pkg-config --exists opencv4 libturbojpeg 2>/dev/null && command -v g++ >/dev/null; }
if ! have_headers; then
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    if command -v apt-get >/dev/null && $sudo true 2>/dev/null; then
        echo "installing $packages"
        DEBIAN_FRONTEND=noninteractive $sudo apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $packages >/dev/null ||
            echo "apt-get could not install them; going on without." >&2
    fi
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
        echo "FFCV is left out: it did not build. All but --pipeline ffcv works." >&2
else
    echo "FFCV is left out: its headers are missing. For --pipeline ffcv run: sudo apt-get install $packages && make -B setup" >&2
fi
