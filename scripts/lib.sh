# shellcheck shell=bash
# What the scripts share; to be sourced. Nothing here asks a question: CI has no stdin.
#
#   ROOT                the repository
#   say TEXT…           a line on stderr
#   die TEXT…           the same, and leave with 1
#   find_python         path of a Python >= 3.11 that can make virtual environments ($PYTHON, if set, is the only choice)
#   new_venv DIR        a fresh one there; what is there must be a virtual environment or nothing
#   dev_venv DIR        one with the development tools and this package, editable; made or mended only if need be
#   python_files        the Python files that have no suffix, from ROOT

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# A developer's shell must not decide: foreign module paths, no bytecode (every start would compile again), no buffers.
unset PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE PYTHONUNBUFFERED PYTHONSTARTUP PYTHONWARNINGS VIRTUAL_ENV
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

find_python() {
  local candidate candidates=(python3.14 python3.13 python3.12 python3.11 python3)
  if [ -n "${PYTHON:-}" ]; then candidates=("$PYTHON"); fi
  for candidate in "${candidates[@]}"; do
    # Run it: a shim on the PATH may stand for nothing, and Debian ships Python without ensurepip. Of an environment
    # that somebody has activated we want the Python beneath: the environment itself may be about to be made anew.
    "$candidate" -c '
import ensurepip, sys, venv
if sys.version_info < (3, 11):
    sys.exit(1)
print(getattr(sys, "_base_executable", sys.executable))' </dev/null 2>/dev/null && return
  done
  die "Python 3.11 or newer with venv and ensurepip is needed (Debian, Ubuntu: apt-get install python3-venv;" \
    "macOS: brew install python). PYTHON=/path/to/python chooses one."
}

new_venv() {
  local folder=$1 python
  if [ -e "$folder" ] && [ ! -e "$folder/pyvenv.cfg" ]; then
    die "$folder is there and is no virtual environment: it stays as it is"
  fi
  python=$(find_python)
  # not --clear: a running interpreter of the old one would have its files pulled away one by one
  rm -rf "$folder"
  "$python" -m venv "$folder" </dev/null
}

dev_venv() {
  local folder=$1 stamp
  stamp="$ROOT $(cksum <"$ROOT/pyproject.toml")"
  if [ "$(cat "$folder/.octopoid-dev" 2>/dev/null)" = "$stamp" ] && "$folder/bin/python" -c '' 2>/dev/null; then
    return
  fi
  say "making $folder with the development tools …"
  "$folder/bin/python" -m pip --version >/dev/null 2>&1 || new_venv "$folder"
  "$folder/bin/python" -m pip install -qq -e "$ROOT[dev]" </dev/null
  printf '%s\n' "$stamp" >"$folder/.octopoid-dev"
}

python_files() {
  (cd "$ROOT" && grep -lE '^#!.*python' scripts/*) || true
}
