#!/bin/sh
# Makes a virtual environment, or says what is missing. Debian keeps venv in a package of its own.
# usage: venv.sh PYTHON FOLDER
set -eu
python=$1
folder=$2

if ! command -v "$python" >/dev/null 2>&1; then
    echo "$python is missing: install Python 3.11 or later (apt-get install python3), or name one: make PYTHON=…" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$("$python" --version) is too old: Python 3.11 or later is needed; name one: make PYTHON=…" >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    echo "$python can't make virtual environments: installing $package" >&2
    sudo=
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    if ! { $sudo apt-get update -q && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y "$package"; } >&2; then
        echo "that failed: install $package (apt-get install $package) and try again" >&2
        exit 1
    fi
fi
"$python" -m venv "$folder"
