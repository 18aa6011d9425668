#!/usr/bin/env bash
# The long run: benchmarks against the promises in numbers, Helm 3, and what the test
# cluster promises of itself. Needs no cluster: it brings up its own and takes them down.
#
# A missed target is printed as missed and fails nothing. The figures go to
# docs/benchmarks.md. The last line reads `N passed, N failed, N skipped`; the exit code
# is 0 only when nothing failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=tests/lib.sh
source tests/lib.sh

first="long-$$" second="long-$$-b"
figures=$(mktemp -d)
finish() {
  for name in "$second" "$first"; do
    say "taking the cluster $name down"
    cluster down --name "$name" || true
  done
  rm -rf "$figures"
  closing_line
}

release=$CARGO_TARGET_DIR/release
static=x86_64-unknown-linux-gnu

# The programs as shipped: the shim brings its own libc, as in the images.
build_for_release() {
  cargo build --locked --quiet --release -p paperclip-sidecar &&
    cargo build --locked --quiet --release -p paperclip-artifact --bin paperclip-packer &&
    cargo build --locked --quiet --release -p paperclip-tests --bin bench &&
    RUSTFLAGS=-Ctarget-feature=+crt-static \
      cargo build --locked --quiet --release --target "$static" -p paperclip-shim
}

bench_bridge() {
  "$release/bench" bridge --figures "$figures/bridge.json" \
    --sidecar "$release/paperclip-sidecar" --shim "$CARGO_TARGET_DIR/$static/release/paperclip-shim"
}

bench_apply() {
  "$release/bench" apply --name "$first" --figures "$figures/apply.json"
}

bench_pack() {
  "$release/bench" pack --name "$first" --figures "$figures/pack.json" \
    --packer "$release/paperclip-packer"
}

bench_report() {
  local files=() part
  for part in bridge apply pack; do
    [[ ! -f $figures/$part.json ]] || files+=("$figures/$part.json")
  done
  "$release/bench" report --page docs/benchmarks.md "${files[@]}"
}

# kubectl as an administrator of a cluster.
kubectl_of() {
  local name=$1
  shift
  KUBECONFIG=$(cluster kubeconfig --name "$name") "$kubectl" "$@"
}

# Both nodes are Ready now.
nodes_are_ready() {
  kubectl_of "$1" wait nodes --all --for=condition=Ready --timeout=5s
}

# A second cluster comes up and goes while the first goes on.
second_cluster_leaves_the_first_alone() {
  cluster up --name "$second" &&
    nodes_are_ready "$second" && nodes_are_ready "$first" &&
    cluster down --name "$second" &&
    nodes_are_ready "$first" &&
    ! cluster status | grep -q "^$second:" &&
    cluster status | grep -q "^$first: up$"
}

# kill -9 of an `up` that has begun and not ended; the next one ends.
interrupted_up_is_made_good() {
  "$CARGO_TARGET_DIR/debug/cluster" up --name "$second" &
  local pid=$!
  sleep 3 # the moment that is tested, not a wait for anything
  kill -KILL "$pid" || return 1
  wait "$pid" 2>/dev/null
  if cluster kubeconfig --name "$second" >/dev/null 2>&1; then
    echo "the bring-up had ended before it was killed" >&2
    return 1
  fi
  cluster up --name "$second" && nodes_are_ready "$second" && nodes_are_ready "$first"
}

# With everything built before, a cluster is up in under a minute.
warm_up_takes_under_a_minute() {
  cluster down --name "$second" || return 1
  local start=$SECONDS
  cluster up --name "$second" || return 1
  local took=$((SECONDS - start))
  say "a warm \`up\` took $took s"
  [[ $took -lt 60 ]] && nodes_are_ready "$second"
}

# Tests of the suite that the gate leaves out.
long_end_to_end() {
  cargo build --locked --quiet -p kubectl-paperclip &&
    PAPERCLIP_TEST_CLUSTER=$first cargo test --locked -p paperclip-tests --test e2e -- \
      --test-threads=1 --nocapture long_
}

install_with() {
  cluster install --name "$first" --helm "$1"
}

# What a release made is gone, and the CRDs' chart is the last to go.
uninstall_with() {
  local helm=$1 kubeconfig
  kubeconfig=$(cluster kubeconfig --name "$first") || return 1
  "$helm" --kubeconfig "$kubeconfig" uninstall main -n paperclip --wait &&
    "$helm" --kubeconfig "$kubeconfig" uninstall paperclip -n paperclip-system --wait &&
    "$helm" --kubeconfig "$kubeconfig" uninstall paperclip-crds -n paperclip-system --wait &&
    [[ -z $(kubectl_of "$first" get deployments -n paperclip-system -o name) ]] &&
    [[ -z $(kubectl_of "$first" get deployments -n paperclip -o name) ]] &&
    [[ -z $("$helm" --kubeconfig "$kubeconfig" list --all-namespaces --short) ]]
}

# The revision of every release, one a line.
revisions() {
  "$1" --kubeconfig "$(cluster kubeconfig --name "$first")" list --all-namespaces \
    -o json | node -e 'for (const r of JSON.parse(require("fs").readFileSync(0))) console.log(r.name, r.revision, r.status)'
}

# Installed over what is there: each release has a second, deployed revision.
upgrade_with() {
  install_with "$1" && [[ $(revisions "$1" | grep -c ' 2 deployed$') -eq 3 ]]
}

prepare_machine
check "programs, built for release" build_for_release
check "benchmark: the bridge against raw stdio" bench_bridge

if cluster up --name "$first" && cluster images --name "$first"; then
  kubectl=$(cluster tool kubectl)
  if helm3=$(cluster tool helm3); then
    say "$("$helm3" version --short)"
    check "Helm 3 installs the three charts" install_with "$helm3"
    check "Helm 3 upgrades them" upgrade_with "$helm3"
    check "Helm 3 uninstalls them" uninstall_with "$helm3"
  else
    failed=$((failed + 1))
    failures+=("Helm 3 could not be built")
  fi
  if cluster install --name "$first"; then
    check "benchmark: apply to Ready, and memory" bench_apply
    check "benchmark: packing against npm ci" bench_pack
    check "end-to-end tests that take their time" long_end_to_end
  else
    failed=$((failed + 1))
    failures+=("installation with Helm 4")
    skip "benchmark: apply to Ready, and memory" "the platform is not installed"
  fi
  check "a second cluster comes and goes beside the first" second_cluster_leaves_the_first_alone
  check "kill -9 in the middle of an \`up\` does not break the next" interrupted_up_is_made_good
  check "a warm \`up\` takes under 60 s" warm_up_takes_under_a_minute
else
  failed=$((failed + 1))
  failures+=("cluster bring-up")
fi
check "report: docs/benchmarks.md" bench_report
finish
