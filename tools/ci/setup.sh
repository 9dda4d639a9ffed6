# Shared by tools/demo and tools/check; sourced, with bash. Leaves the shell in the root of the checkout.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# stage NAME COMMAND...: runs it, and says how long it took. A stage that fails ends the script.
stage() {
  local name=$1 begin=$SECONDS
  shift
  echo "== $name"
  "$@" || fail "$name"
  echo "-- $name: $((SECONDS - begin)) s"
}

# Packages of the given lists that are not installed, one a line.
missing_packages() {
  local package
  sed -e 's/#.*//' -e '/^ *$/d' "$@" | while read -r package; do
    # No match is an exit code of its own, and an answer too.
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || echo "$package"
  done
}

# install_packages LIST...: installs what is missing, and calls apt not at all when nothing is.
install_packages() {
  command -v dpkg-query >/dev/null || fail "this is no Debian: install the packages of $* by hand, then use cmake"
  local missing as_root=()
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  echo "installing: ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "not root and no sudo; as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  # env: sudo drops the environment. The lock: a fresh machine may be busy upgrading itself.
  as_root+=(env DEBIAN_FRONTEND=noninteractive)
  local apt=("${as_root[@]}" apt-get -q -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Acquire::Retries=3)
  # Another repository on the machine may be out of reach; what counts is whether the packages can be had.
  "${apt[@]}" update || echo "apt-get update failed; trying with the package lists that are here" >&2
  "${apt[@]}" install -y --no-install-recommends "${missing[@]}" || return 1
}

# configure PRESET: cmake, unless that was done. Later changes of the CMake files are ninja's to notice.
configure() {
  local folder=build/$1
  # Where ccache cannot write its cache it fails the compilation.
  ccache --show-stats >/dev/null 2>&1 || export CCACHE_DISABLE=1
  if [ ! -e "$folder/build.ninja" ] || [ CMakePresets.json -nt "$folder/build.ninja" ]; then
    cmake --preset "$1"
  fi
}
