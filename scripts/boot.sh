# Sourced by the scripts beside it, with the checkout as working directory.
# Gives: prepare ARGS...   makes .venv as uv.lock says; ARGS go to `uv sync`.
# Needs: Python 3.11 or later, nothing else. uv is taken from PATH, or installed into .boot.
# Keeps: nothing is written outside the checkout but uv's own cache in $HOME.

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

find_python() {
    for python in python3 python3.11 python3.12 python3.13 python3.14 python; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            return
        fi
    done
    fail "Python 3.11 or later is needed, and none of python3, python3.11 ... python3.14 is one." \
        "Install it with your system's packages (such as: apt install python3 python3-venv)."
}

find_uv() {
    for uv in uv .boot/bin/uv; do
        # Asked, not only looked for: a shim of a version manager may stand in for nothing.
        if "$uv" --version >/dev/null 2>&1; then
            return
        fi
    done
    rm -rf .boot
    # A virtual environment where Python can make one, else a plain folder: the second way also
    # works where the system's Python has no `venv` or is managed by the system.
    if "$python" -m venv .boot >.boot.log 2>&1 &&
        .boot/bin/python -m pip install --quiet --require-hashes -r scripts/uv.txt >>.boot.log 2>&1; then
        :
    else
        rm -rf .boot
        "$python" -m pip install --quiet --target .boot --require-hashes -r scripts/uv.txt >>.boot.log 2>&1 || {
            cat .boot.log >&2
            fail "uv could not be installed: $python has neither a working venv nor pip (above)." \
                "Install them (such as: apt install python3-venv), or put uv on PATH."
        }
    fi
    rm -f .boot.log
    .boot/bin/uv --version >/dev/null || fail "the uv that was installed does not run"
}

prepare() {
    find_python
    find_uv
    # A chosen interpreter is the user's word. Without one, an environment of the same checkout is
    # kept, whatever Python made it.
    [ -n "${UV_PYTHON:-}" ] || [ -x .venv/bin/python ] || UV_PYTHON=$(command -v "$python")
    [ -z "${UV_PYTHON:-}" ] || export UV_PYTHON
    export UV_PYTHON_DOWNLOADS=never
    # Of another project perhaps, and uv would only warn of it.
    unset VIRTUAL_ENV
    # The system's certificates where there are any: a company's proxy is known to them, not to uv.
    for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
        [ ! -s "$bundle" ] || export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"
    done
    if [ ! -w "${HOME:-/nonexistent}" ] && [ -z "${UV_CACHE_DIR:-}" ]; then
        export UV_CACHE_DIR="$PWD/.boot.cache"
    fi
    "$uv" sync --frozen --quiet "$@" || fail "the packages of uv.lock could not be installed (above)"
}
