#!/usr/bin/env bash
# Runs all tests: formatting, lints, licences, unit and integration tests, and the end-to-end
# suite on two-node clusters of its own. Installs and builds what it needs, keeps builds in
# the user's cache folder, and says what it is doing. Tested is what lies in this working tree,
# committed or not, but for what git ignores; see `enter_checkout`.
#
# Options are those of the program `gate`, which runs what is built here: `--clusters 0`, for
# example, leaves the end-to-end suite out.
#
# A table of the stages stands above the last line, `N passed, N failed, N skipped`; the exit
# code is 0 only when nothing failed. Each skip is printed with its reason.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=tests/lib.sh
source tests/lib.sh

export PAPERCLIP_GATE_STARTED=${PAPERCLIP_GATE_STARTED:-$EPOCHSECONDS}
prepare_machine
enter_checkout tests/gate.sh "$@"

# Errors carry their chain; backtraces of the test harness only hide it.
export RUST_BACKTRACE=0
started=$PAPERCLIP_GATE_STARTED
unset PAPERCLIP_GATE_STARTED
export PAPERCLIP_PROGRAMS=$CARGO_TARGET_DIR/debug
messages=$CARGO_TARGET_DIR/gate-messages.json

# Seconds since the gate began.
elapsed() {
  echo $((EPOCHSECONDS - started))
}

# Everything that is run below, with one profile and one set of features: tests, programs and,
# of these, images.
build_everything() {
  mkdir -p "$CARGO_TARGET_DIR" &&
    start_go_builds dev &&
    cargo build --locked --quiet --workspace --all-targets \
      --message-format=json-render-diagnostics >"$messages" &&
    build_static dev
}

entered=$(elapsed)
say "building tests and programs"
if ! build_everything; then
  failed=1 failures=("build")
  closing_line
  exit 1
fi
built=$(elapsed)

# What this starts and leaves running on a cluster does not keep the checkout. A signal is
# passed on, so that clusters go.
"$PAPERCLIP_PROGRAMS/gate" --messages "$messages" --programs "$PAPERCLIP_PROGRAMS" \
  --started "$started" --stage "checkout=0-$entered" --stage "build=$entered-$built" "$@" 9>&- &
gate=$!
trap 'kill -TERM "$gate" 2>/dev/null' INT TERM HUP
while true; do
  wait "$gate"
  status=$?
  kill -0 "$gate" 2>/dev/null || exit "$status"
done
