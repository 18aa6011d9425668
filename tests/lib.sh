# Shell functions that the scripts in this folder share. Sourced, not run.

cache=${XDG_CACHE_HOME:-$HOME/.cache}/paperclip-kubernetes
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
# Programs that bring their own libc name their target, or procedural macros would be static too.
static_target=x86_64-unknown-linux-gnu

# Says what is happening, with the time, on standard error.
say() {
  printf '\n[%(%H:%M:%S)T] %s\n' -1 "$*" >&2
}

# Fails early, with what to do, when a toolchain is missing.
prepare_machine() {
  local missing=()
  for program in cargo go node npm apt-get git flock; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  if [[ ${#missing[@]} -gt 0 ]]; then
    echo "not found: ${missing[*]}. Needed are a Debian machine with Rust (rustup), Go 1.26 or later, Node.js with npm, git, and root." >&2
    exit 1
  fi
  if [[ $(id -u) -ne 0 ]]; then
    echo "run this as root: it makes network namespaces and mounts for two Kubernetes nodes." >&2
    exit 1
  fi
}

# Goes on in the checkout below the cache folder, brought to what lies in this working tree:
# what git tracks, as it is now, and what it neither tracks nor ignores. Files that did not
# change keep their times there, so that a fresh clone, too, builds what changed only; what is
# gone here is gone there. The checkout and its builds are one run's at a time.
#
# enter_checkout SCRIPT ARGUMENTS… runs the script of that checkout in place of this one.
enter_checkout() {
  local script=$1 checkout=$cache/checkout
  shift
  if [[ $PWD == "$checkout" && -n ${PAPERCLIP_ORIGIN:-} ]]; then
    return
  fi
  # Of a git hook, for example. They would name this repository to every git below.
  # shellcheck disable=SC2046
  unset $(git rev-parse --local-env-vars)
  mkdir -p "$cache"
  exec 9>>"$cache/checkout.lock"
  if ! flock --nonblock 9; then
    say "process $(cat "$cache/checkout.lock"), or what it started, uses $checkout; waiting for its end"
    flock 9
  fi
  echo $$ >"$cache/checkout.lock"
  if ! update_checkout "$checkout"; then
    say "making $checkout anew"
    rm -rf "$checkout"
    update_checkout "$checkout" || exit 1
  fi
  export PAPERCLIP_ORIGIN=$PWD
  cd "$checkout" && exec bash "$script" "$@"
}

# Git, whoever owns the clone.
git_as_found() {
  git -c safe.directory='*' -c user.name=gate -c user.email=gate@localhost -c core.hooksPath=/dev/null "$@"
}

# Makes a checkout equal to this working tree.
update_checkout() {
  local checkout=$1 commit
  commit=$(commit_of_working_tree) || return 1
  git_as_found init --quiet "$checkout" || return 1
  rm -f "$checkout"/.git/*.lock
  git_as_found push --quiet --force "$checkout" "$commit:refs/gate/tested" &&
    git_as_found -C "$checkout" checkout --quiet --force --detach refs/gate/tested &&
    git_as_found -C "$checkout" clean -ffdxq
}

# A commit without history of what lies in this working tree. The index stays as it is.
commit_of_working_tree() {
  local index tree status=0
  index=$(mktemp) || return 1
  cp "$(git_as_found rev-parse --git-path index)" "$index" &&
    GIT_INDEX_FILE=$index git_as_found add --all &&
    tree=$(GIT_INDEX_FILE=$index git_as_found write-tree) &&
    git_as_found commit-tree "$tree" -m "the working tree" || status=1
  rm -f "$index"
  return "$status"
}

# Builds in the background, while cargo has its turn, what the cluster needs of Go. Whoever
# needs such a program waits for it; what fails here fails there again, and is said there.
start_go_builds() {
  cargo build --locked --quiet --profile "$1" -p paperclip-test-programs || return 1
  "$PAPERCLIP_PROGRAMS/paperclip-test-programs" 9>&- &
  trap 'jobs -p | xargs -r kill 2>/dev/null' EXIT
}

# Builds these programs of ours with a profile, beside each other.
build_programs() {
  local profile=$1 program arguments=()
  shift
  for program in "$@"; do arguments+=(--bin "$program"); done
  cargo build --locked --quiet --workspace --profile "$profile" "${arguments[@]}"
}

# Builds what brings its own libc, since it runs in images that are not ours.
build_static() {
  local profile=$1
  RUSTFLAGS=-Ctarget-feature=+crt-static \
    cargo build --locked --quiet --target "$static_target" --profile "$profile" \
    -p paperclip-shim -p paperclip-plugin-example-tally
}

# Programs in our images.
image_programs=(paperclip-operator paperclip-sidecar paperclip-fetch paperclip-host paperclip-packer)

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

# The bring-up of the test cluster, as built. What it starts and leaves running does not keep
# the checkout.
cluster() {
  "${PAPERCLIP_PROGRAMS:?the folder of our programs}/cluster" "$@" 9>&-
}

# Counts instructions; from Debian, on first use.
install_valgrind() {
  command -v callgrind_control >/dev/null && return
  say "installing valgrind"
  apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends valgrind >/dev/null
}
