#!/usr/bin/env bash
# Runs the main job end to end and shows its answer: a published plugin, named in a
# resource, becomes a worker in a pod and answers through the host.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/lib.sh
source tests/lib.sh

usage() {
  cat <<'TEXT'
Usage: bash tests/demo.sh [--down]
       bash tests/demo.sh --kubeconfig FILE --image-registry REGISTRY --npm-registry URL

Without options: a two-node test cluster on this machine, made on first use and kept.
With --kubeconfig: a cluster of yours. REGISTRY is one its nodes pull from and this machine
may push to; URL is an npm registry that its pods reach (default: the one npm uses here).

  --down   take the test cluster of this command down
TEXT
}

arguments=()
name=demo down='' kubeconfig='' registry='' npm=$(npm config get registry 2>/dev/null || true)
while [[ $# -gt 0 ]]; do
  case $1 in
    --down) down=yes arguments+=(--down) ;;
    --kubeconfig)
      kubeconfig=$(cd "${OLDPWD:-.}" && realpath "$2")
      arguments+=(--kubeconfig "$kubeconfig")
      shift
      ;;
    --image-registry) registry=$2 arguments+=(--image-registry "$2"); shift ;;
    --npm-registry) npm=$2 arguments+=(--npm-registry "$2"); shift ;;
    --help | -h) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

prepare_machine
enter_checkout tests/demo.sh ${arguments[@]+"${arguments[@]}"}

export PAPERCLIP_PROGRAMS=$CARGO_TARGET_DIR/release
export PATH=$PAPERCLIP_PROGRAMS:$PATH
if [[ -n $down ]]; then
  build_programs release cluster
  cluster down --name "$name"
  exit
fi
say "1/5 building the bring-up, the CLI and the programs of our images"
[[ -n $kubeconfig ]] || start_go_builds release
build_programs release cluster kubectl-paperclip "${image_programs[@]}"
build_static release

if [[ -n $kubeconfig ]]; then
  export KUBECONFIG=$kubeconfig
  say "2/5 images to $registry"
  cluster images --registry "$registry"
  say "3/5 charts: CRDs, platform, host"
  cluster install --kubeconfig "$kubeconfig" --registry "$registry" --npm "$npm"
  kubectl=kubectl
else
  say "2/5 a two-node cluster on this machine, and our images in its registry"
  cluster up --name "$name"
  cluster images --name "$name"
  say "3/5 charts: CRDs, platform, host"
  cluster install --name "$name"
  KUBECONFIG=$(cluster kubeconfig --name "$name")
  export KUBECONFIG
  kubectl=$(cluster tool kubectl)
fi

say "4/5 the plugin: kubectl apply -f examples/commerce.yaml"
"$kubectl" create namespace shop --dry-run=client -o yaml | "$kubectl" apply -f - >&2
"$kubectl" label --overwrite namespace shop pod-security.kubernetes.io/enforce=restricted >&2
"$kubectl" apply -n shop -f examples/commerce.yaml >&2
"$kubectl" wait -n shop --for=condition=Ready --timeout=300s paperclipplugin/commerce >&2
kubectl-paperclip list -n shop >&2

say "5/5 a customer asks for a logo, through the plugin's webhook; then the deals, through its tool"
session=demo-$(date +%s)
kubectl-paperclip webhook -n shop commerce bcp-incoming --data \
  "{\"type\":\"intent\",\"sessionId\":\"$session\",\"payload\":{\"service\":\"logo design\",\"budget\":900}}" >&2
kubectl-paperclip call -n shop commerce bcp_list_deals --undeclared
say "done. The cluster stays up: export KUBECONFIG=$KUBECONFIG"
