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
  claim_target_folder
}

# Cargo tells two checkouts that share a target folder apart only by the times of their
# files, so the sources of the checkout that builds next must be the newest.
claim_target_folder() {
  local owner=$CARGO_TARGET_DIR/checkout
  mkdir -p "$CARGO_TARGET_DIR"
  if [[ $(cat "$owner" 2>/dev/null) != "$PWD" ]]; then
    git ls-files -z | xargs -0 touch --no-create
    echo "$PWD" >"$owner"
  fi
}

# Counts of the checks below, for the last line of a run.
passed=0 failed=0 skipped=0
failures=()

# Counts one check that either holds or does not.
check() {
  local name=$1
  shift
  say "$name"
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    failures+=("$name")
    say "FAILED: $name"
  fi
}

# Counts a check that could not be made, with its reason.
skip() {
  skipped=$((skipped + 1))
  say "SKIPPED: $1: $2"
}

# Prints what failed and the counts; fails when anything did.
closing_line() {
  local failure
  for failure in ${failures[@]+"${failures[@]}"}; do echo "failed: $failure"; done
  echo "$passed passed, $failed failed, $skipped skipped"
  [[ $failed -eq 0 ]]
}

# The bring-up of the test cluster, built on first use.
cluster() {
  cargo run --locked --quiet -p paperclip-tests --bin cluster -- "$@"
}

# Counts instructions; from Debian, on first use.
install_valgrind() {
  command -v callgrind_control >/dev/null && return
  say "installing valgrind"
  apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends valgrind >/dev/null
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

# The gRPC contract: style, format, and nothing taken away of what was released.
lint_contract() {
  local version=1.75.0
  local root=${XDG_CACHE_HOME:-$HOME/.cache}/paperclip-kubernetes/buf-$version
  if [[ ! -x $root/node_modules/.bin/buf ]]; then
    mkdir -p "$root" && echo '{"private":true}' >"$root/package.json" &&
      npm install --prefix "$root" --no-audit --no-fund --silent "@bufbuild/buf@$version" || return 1
  fi
  local buf=$root/node_modules/.bin/buf
  (cd proto/bridge && "$buf" lint && "$buf" format --diff --exit-code && "$buf" breaking proto --against released --config buf.yaml)
}

# Every chart, as strictly as Helm can, and what it renders from each of its ci/*.yaml, which
# stands in tests/golden/charts. PAPERCLIP_UPDATE_GOLDEN=1 writes that anew.
lint_charts() {
  local helm chart values golden status=0
  helm=$(cluster tool helm) || return 1
  for chart in charts/*/; do
    "$helm" lint --strict --quiet "$chart" || return 1
    for values in "$chart"ci/*.yaml; do
      [[ -f $values ]] || continue
      golden=tests/golden/charts/$(basename "$chart")-$(basename "$values")
      if [[ -n ${PAPERCLIP_UPDATE_GOLDEN:-} ]]; then
        "$helm" template release "$chart" --namespace paperclip --values "$values" >"$golden" || return 1
      fi
      "$helm" template release "$chart" --namespace paperclip --values "$values" |
        diff --unified "$golden" - || status=1
    done
  done
  return "$status"
}
