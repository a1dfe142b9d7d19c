# shellcheck shell=bash
# Debian packages, for the scripts beside this folder: to be sourced, not run.
# shellcheck disable=SC2034  # the lists are used where this is sourced

# What the tool is built from. The tests need the second list as well.
krul_packages=(
  g++ cmake ninja-build pkg-config
  libeigen3-dev libdnnl-dev libxxhash-dev libutf8proc-dev libexpected-dev libcli11-dev nlohmann-json3-dev
  libhiredis-dev libcurl4-openssl-dev libexpat1-dev libssl-dev libsodium-dev
  python3 python3-pip
)
krul_test_packages=(doctest-dev libbenchmark-dev libboost-context-dev python3-numpy python3-xxhash redis-server)

# say TEXT: one line about what happens next. On standard error: some scripts' standard output is read by others.
say() { printf '== %s\n' "$*" >&2; }

# For this machine: another architecture's package of the same name does not count.
is_installed() {
  dpkg-query --show --showformat='${Architecture} ${db:Status-Status}\n' "$1" 2>/dev/null |
    grep --line-regexp --extended-regexp "(all|$(dpkg --print-architecture)) installed" >/dev/null
}

# install_packages NAME...: installs those that are missing, as root or through sudo. Where it may not, it says what to
# run and fails.
install_packages() {
  local missing=() name
  if ! command -v dpkg-query >/dev/null; then
    say "this is not Debian: going on as if these were there: $*"
    return
  fi
  for name in "$@"; do
    is_installed "$name" || missing+=("$name")
  done
  if ((${#missing[@]} == 0)); then
    say "all Debian packages are there"
    return
  fi
  local as_root=()
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      say "packages are missing; run this as root, then start again:"
      printf 'apt-get update && apt-get install --no-install-recommends --yes %s\n' "${missing[*]}" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  say "installing Debian packages: ${missing[*]}"
  # Their standard output is long and says nothing that a reader needs; errors go to standard error.
  "${as_root[@]}" apt-get update --quiet --quiet >/dev/null
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --no-install-recommends --yes --quiet --quiet "${missing[@]}" >/dev/null
}
