#!/usr/bin/env bash
# Checks that are no tests, each by its name: `bash tests/checks.sh dependencies|charts|contract`.
# The gate runs all of them. PAPERCLIP_UPDATE_GOLDEN=1 with `charts` writes what charts render
# anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/lib.sh
source tests/lib.sh
export PAPERCLIP_PROGRAMS=${PAPERCLIP_PROGRAMS:-$CARGO_TARGET_DIR/debug}

# Licences, bans and sources. The advisory database is not in a package registry,
# so advisories are a command of their own, see deny.toml.
dependencies() {
  local version=0.20.2
  local root=$cache/cargo-deny-$version
  if [[ ! -x $root/bin/cargo-deny ]]; then
    say "building cargo-deny $version (first time: about 4 minutes)"
    cargo install --quiet --locked --root "$root" --version "$version" cargo-deny
  fi
  "$root/bin/cargo-deny" --log-level error check licenses bans sources
}

# The gRPC contract: style, format, and nothing taken away of what was released.
contract() {
  local version=1.75.0
  local root=$cache/buf-$version
  if [[ ! -x $root/node_modules/.bin/buf ]]; then
    mkdir -p "$root"
    echo '{"private":true}' >"$root/package.json"
    npm install --prefix "$root" --no-audit --no-fund --silent "@bufbuild/buf@$version"
  fi
  local buf=$root/node_modules/.bin/buf
  cd proto/bridge
  "$buf" lint
  "$buf" format --diff --exit-code
  "$buf" breaking proto --against released --config buf.yaml
}

# Every chart, as strictly as Helm can, and what it renders from each of its ci/*.yaml, which
# stands in tests/golden/charts.
charts() {
  local helm chart values golden status=0
  helm=$(cluster tool helm)
  for chart in charts/*/; do
    "$helm" lint --strict --quiet "$chart"
    for values in "$chart"ci/*.yaml; do
      [[ -f $values ]] || continue
      golden=tests/golden/charts/$(basename "$chart")-$(basename "$values")
      if [[ -n ${PAPERCLIP_UPDATE_GOLDEN:-} ]]; then
        "$helm" template release "$chart" --namespace paperclip --values "$values" >"$golden"
      fi
      "$helm" template release "$chart" --namespace paperclip --values "$values" |
        diff --unified "$golden" - || status=1
    done
  done
  return "$status"
}

case ${1:-} in
  dependencies | charts | contract) "$1" ;;
  *) echo "usage: bash tests/checks.sh dependencies|charts|contract" >&2 && exit 2 ;;
esac
