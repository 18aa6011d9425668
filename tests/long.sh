#!/usr/bin/env bash
# The long run: benchmarks against the promises in numbers, Helm 3, and what the test
# cluster promises of itself. Needs no cluster: it brings up its own and takes them down.
# Runs what lies in this working tree, as the gate does.
#
# `bash tests/long.sh [PART…]` runs the named parts alone: a benchmark, by the name of its
# subcommand (bridge, rivals, sizes, hosts, instructions, idle, apply, pack, nodes, neighbours,
# idle-cluster), `helm3`, `end-to-end`, `clusters` or `fuzz`. PAPERCLIP_FUZZ_SECONDS shortens
# the last, which takes an hour.
#
# A missed target is printed as missed and fails nothing. A ratio that is 1.5 times worse than the
# one recorded in docs/benchmarks.json fails the report by the name of its row; else the figures are
# recorded there, and docs/benchmarks.md is made from them. PAPERCLIP_ACCEPT_FIGURES=1 records them
# also then. The last line reads `N passed, N failed, N skipped`; the exit code is 0 only when
# nothing failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=tests/lib.sh
source tests/lib.sh

first="long-$$" second="long-$$-b"
figures=$(mktemp -d)
finish() {
  rm -rf "$figures"
  closing_line
}

# What brings clusters up and measures, and the programs of our images. Those that are measured
# by themselves are built as shipped: without the features that other packages ask for.
build_for_release() {
  start_go_builds release &&
    build_programs release cluster bench kubectl-paperclip "${image_programs[@]}" &&
    cargo build --locked --quiet --release -p paperclip-sidecar -p paperclip-fetch &&
    cargo build --locked --quiet --release -p paperclip-packer --bin paperclip-packer &&
    build_static release
}

# Benchmarks of programs of this machine, and those on the cluster.
local_benchmarks=(bridge rivals sizes hosts instructions idle)
cluster_benchmarks=(apply pack nodes neighbours idle-cluster)
known=("${local_benchmarks[@]}" "${cluster_benchmarks[@]}" helm3 end-to-end clusters fuzz)
parts=("$@")

# Fails early when a part is named that there is not.
check_parts() {
  local one
  for one in ${parts[@]+"${parts[@]}"}; do
    if [[ " ${known[*]} " != *" $one "* ]]; then
      echo "there is no part $one; the parts are: ${known[*]}" >&2
      exit 2
    fi
  done
}

# Whether one of these parts is to be run.
wanted() {
  local one
  [[ ${#parts[@]} -gt 0 ]] || return 0
  for one in "$@"; do
    [[ " ${parts[*]} " != *" $one "* ]] || return 0
  done
  return 1
}

# How often each is measured. The design wants medians of five interleaved runs at least, and 30
# warm starts.
declare -A counts=(
  [bridge]="--rounds 5"
  [rivals]="--rounds 5"
  [sizes]="--rounds 5"
  [hosts]="--rounds 5"
  [instructions]=""
  [idle]="--rounds 5 --seconds 60"
  [apply]="--cold 5 --warm 30"
  [pack]="--rounds 5"
  [nodes]="--rounds 5"
  [neighbours]="--rounds 5"
  [idle-cluster]="--plugins 5 --seconds 60"
)

bench() {
  local part=$1 counted
  read -ra counted <<<"${counts[$part]}"
  shift
  "$PAPERCLIP_PROGRAMS/bench" "$part" --figures "$figures/$part.json" ${counted[@]+"${counted[@]}"} "$@"
}

# A benchmark of programs of this machine.
bench_programs() {
  local shim=$CARGO_TARGET_DIR/$static_target/release/paperclip-shim more=()
  if [[ $1 == instructions ]]; then
    install_valgrind || return 1
    more=(--profiles "$figures/profiles")
  fi
  bench "$1" --sidecar "$PAPERCLIP_PROGRAMS/paperclip-sidecar" --shim "$shim" ${more[@]+"${more[@]}"}
}

# A benchmark on the cluster.
bench_cluster() {
  local more=()
  [[ $1 != pack ]] || more=(--packer "$PAPERCLIP_PROGRAMS/paperclip-packer")
  bench "$1" --name "$first" ${more[@]+"${more[@]}"}
}

bench_report() {
  local part files=() accept=()
  [[ -z ${PAPERCLIP_ACCEPT_FIGURES:-} ]] || accept=(--accept)
  for part in "${local_benchmarks[@]}" "${cluster_benchmarks[@]}"; do
    [[ ! -f $figures/$part.json ]] || files+=("$figures/$part.json")
  done
  "$PAPERCLIP_PROGRAMS/bench" report --recorded "$PAPERCLIP_ORIGIN/docs/benchmarks.json" \
    --page "$PAPERCLIP_ORIGIN/docs/benchmarks.md" ${accept[@]+"${accept[@]}"} ${files[@]+"${files[@]}"}
}

# Every fuzz target of sidecar and packer, side by side: each program runs its own at once.
fuzz() {
  export PAPERCLIP_FUZZ_SECONDS=${PAPERCLIP_FUZZ_SECONDS:-3600}
  local crate status=0
  local -A pids=()
  for crate in paperclip-sidecar paperclip-packer; do
    cargo test --locked --quiet -p "$crate" --test fuzz --no-run || return 1
    cargo test --locked --quiet -p "$crate" --test fuzz -- --nocapture \
      >"$figures/fuzz-$crate" 2>&1 &
    pids[$crate]=$!
  done
  for crate in "${!pids[@]}"; do
    if wait "${pids[$crate]}"; then
      grep ' inputs, ' "$figures/fuzz-$crate"
    else
      echo "fuzzing $crate failed:" && cat "$figures/fuzz-$crate"
      status=1
    fi
  done
  return "$status"
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
  "$PAPERCLIP_PROGRAMS/cluster" up --name "$second" 9>&- &
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
  PAPERCLIP_TEST_CLUSTER=$first cargo test --locked --release -p paperclip-tests --test e2e -- \
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

# What needs the platform installed.
on_the_platform() {
  local part
  if ! cluster install --name "$first"; then
    failed=$((failed + 1))
    failures+=("installation with Helm 4")
    skip "benchmarks on the cluster" "the platform is not installed"
    return
  fi
  for part in "${cluster_benchmarks[@]}"; do
    ! wanted "$part" || check "benchmark: $part" bench_cluster "$part"
  done
  ! wanted end-to-end || check "end-to-end tests that take their time" long_end_to_end
}

with_helm3() {
  local helm3
  if ! helm3=$(cluster tool helm3); then
    failed=$((failed + 1))
    failures+=("Helm 3 could not be built")
    return
  fi
  say "$("$helm3" version --short)"
  check "Helm 3 installs the three charts" install_with "$helm3"
  check "Helm 3 upgrades them" upgrade_with "$helm3"
  check "Helm 3 uninstalls them" uninstall_with "$helm3"
}

several_clusters() {
  check "a second cluster comes and goes beside the first" second_cluster_leaves_the_first_alone
  check "kill -9 in the middle of an \`up\` does not break the next" interrupted_up_is_made_good
  check "a warm \`up\` takes under 60 s" warm_up_takes_under_a_minute
}

take_clusters_down() {
  local name
  for name in "$second" "$first"; do
    say "taking the cluster $name down"
    cluster down --name "$name" || true
  done
}

# What needs a cluster.
on_clusters() {
  if ! { cluster up --name "$first" && cluster images --name "$first"; }; then
    failed=$((failed + 1))
    failures+=("cluster bring-up")
    return
  fi
  kubectl=$(cluster tool kubectl)
  ! wanted helm3 || with_helm3
  ! wanted "${cluster_benchmarks[@]}" end-to-end || on_the_platform
  ! wanted clusters || several_clusters
}

check_parts
prepare_machine
enter_checkout tests/long.sh ${parts[@]+"${parts[@]}"}
export PAPERCLIP_PROGRAMS=$CARGO_TARGET_DIR/release
check "programs, built for release" build_for_release
for part in "${local_benchmarks[@]}"; do
  ! wanted "$part" || check "benchmark: $part" bench_programs "$part"
done
if wanted "${cluster_benchmarks[@]}" helm3 end-to-end clusters; then
  on_clusters
  take_clusters_down
fi
! wanted fuzz || check "fuzz targets, for ${PAPERCLIP_FUZZ_SECONDS:-3600} s" fuzz
if wanted "${local_benchmarks[@]}" "${cluster_benchmarks[@]}"; then
  check "report: figures against those recorded, and docs/benchmarks.md" bench_report
fi
finish
