# Shell functions that the scripts in this folder share. Sourced, not run.

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/paperclip-kubernetes/target}

# Says what is happening, with the time, on standard error.
say() {
  printf '\n[%(%H:%M:%S)T] %s\n' -1 "$*" >&2
}

# Fails early, with what to do, when a toolchain is missing.
prepare_machine() {
  local missing=()
  for program in cargo go node npm apt-get; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  if [[ ${#missing[@]} -gt 0 ]]; then
    echo "not found: ${missing[*]}. Needed are a Debian machine with Rust (rustup), Go 1.26 or later, Node.js with npm, and root." >&2
    exit 1
  fi
  if [[ $(id -u) -ne 0 ]]; then
    echo "run this as root: it makes network namespaces and mounts for two Kubernetes nodes." >&2
    exit 1
  fi
}

# The bring-up of the test cluster, built on first use.
cluster() {
  cargo run --locked --quiet -p paperclip-tests --bin cluster -- "$@"
}

# Licences, bans and sources. The advisory database is not in a package registry,
# so advisories are a command of their own, see deny.toml.
cargo_deny() {
  local version=0.20.2
  local root=${XDG_CACHE_HOME:-$HOME/.cache}/paperclip-kubernetes/cargo-deny-$version
  if [[ ! -x $root/bin/cargo-deny ]]; then
    say "building cargo-deny $version (first time: about 4 minutes)"
    cargo install --quiet --locked --root "$root" --version "$version" cargo-deny || return 1
  fi
  "$root/bin/cargo-deny" --log-level error check licenses bans sources
}

# Every chart, as strictly as Helm can.
lint_charts() {
  local helm chart
  helm=$(cluster tool helm) || return 1
  for chart in charts/*/; do
    "$helm" lint --strict --quiet "$chart" || return 1
    local values=()
    [[ ! -f $chart/ci/values.yaml ]] || values=(--values "$chart/ci/values.yaml")
    "$helm" template release "$chart" "${values[@]}" >/dev/null || return 1
  done
}
