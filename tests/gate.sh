#!/usr/bin/env bash
# Runs all tests: formatting, lints, licences, unit and integration tests, then the
# end-to-end suite on a two-node cluster of its own. Installs and builds what it
# needs, keeps builds in the user's cache folder, and says what it is doing.
#
# The last line reads `N passed, N failed, N skipped`; the exit code is 0 only when
# nothing failed. Each skip is printed with its reason.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=tests/lib.sh
source tests/lib.sh

# Errors carry their chain; backtraces of the test harness only hide it.
export RUST_BACKTRACE=0

# Runs cargo test and adds what it counted.
cargo_tests() {
  local name=$1 log
  shift
  log=$(mktemp)
  say "$name"
  cargo test --locked --no-fail-fast "$@" 2>&1 | tee "$log"
  local status=${PIPESTATUS[0]} p f i
  read -r p f i < <(awk '/^test result:/ { p += $4; f += $6; i += $8 } END { print p + 0, f + 0, i + 0 }' "$log")
  rm -f "$log"
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + i))
  if [[ $status -ne 0 ]]; then
    # A test binary that does not build or dies counts as a failure of its own.
    [[ $f -gt 0 ]] || failed=$((failed + 1))
    failures+=("$name")
  fi
}

cluster_name="gate-$$"
finish() {
  say "taking the cluster $cluster_name down"
  cluster down --name "$cluster_name" || true
  closing_line
}

prepare_machine
check "formatting" cargo fmt --all --check
check "licences, bans and sources of dependencies" cargo_deny
check "lints" cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
# Tests of the artifact store run against the real registry.
PAPERCLIP_TEST_REGISTRY=$(cluster tool registry) && export PAPERCLIP_TEST_REGISTRY
cargo_tests "unit and integration tests" --workspace --exclude paperclip-tests
cargo_tests "tests of the harness" -p paperclip-tests --lib --bins
check "charts" lint_charts
check "gRPC contract" lint_contract

check "programs that the suite runs as a user would" cargo build --locked --quiet -p kubectl-paperclip -p paperclip-packer

say "a two-node cluster of its own, with the platform installed: $cluster_name"
if cluster up --name "$cluster_name" && cluster images --name "$cluster_name" && cluster install --name "$cluster_name"; then
  export PAPERCLIP_TEST_CLUSTER=$cluster_name
  cargo_tests "end-to-end suite" -p paperclip-tests --test e2e -- --test-threads=1 --skip audit_ --skip long_ --skip last_
  cargo_tests "audit log of the whole suite" -p paperclip-tests --test e2e -- --test-threads=1 audit_
  cargo_tests "uninstallation, which ends the platform" -p paperclip-tests --test e2e -- --test-threads=1 last_
else
  failed=$((failed + 1))
  failures+=("cluster bring-up")
fi
finish
