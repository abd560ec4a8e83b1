#!/usr/bin/env bash
# Run the statistics service, or its tests, in containers or with nothing but Python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
  cat <<'END'
Usage: ./deploy.sh [-t] [-N] [-e] [-i] [-h] [-- ARGUMENT...]

  (none)  build the container stack, (re)start it, and wait until it is healthy
  -t      then run the whole test suite in the test container, on this stack
  -N      with -t: only run the tests, on the running stack
  -e      no containers: create .venv, install, and run `statsd demo` on embedded servers;
          with -t the whole test suite instead of the demo
  -i      with -e: only create .venv and install
  -h      show this help, as --help does

Options combine (-et). Arguments after -- go to pytest, or to `statsd demo`:
  ./deploy.sh -e -- --seconds 5
  ./deploy.sh -et -- tests/test_background_stats.py -k cold_start

Containers need Docker with `docker compose`; PYTHON_VERSION is their Python (default 3.13).
-e needs Python 3.11 or newer; set PYTHON to its path if it is not on the PATH. It ignores
DATABASE_URL, REDIS_URL and STATSD_TEST_DESTROYS_DATA.
END
}

say() { printf 'deploy.sh: %s\n' "$*" >&2; }

die() { # for a wrong call, and for missing software
  say "$@"
  exit 2
}

# --- without containers

find_python() { # prints the first Python that is new enough and has the module venv
  local candidate version found=
  local candidates=(python3.13 python3.12 python3.11 python3)
  [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])
sys.exit(sys.version_info < (3, 11))' 2>/dev/null) || continue
    if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
      echo "$candidate"
      return
    fi
    found=${found:-$version}
  done
  [[ -z $found ]] || die "Python $found has no module venv: install it" \
    "(Debian, Ubuntu: apt-get install python$found-venv)"
  die "no Python 3.11 or newer (looked for: ${candidates[*]}): install one" \
    "(Debian, Ubuntu: apt-get install python3 python3-venv), or set PYTHON=/path/to/python"
}

make_venv() { # creates .venv, again if its Python, its path or its requirements have changed
  local python wanted record=.venv/made-for
  python=$(find_python)
  wanted=$("$python" -VV && echo "$PWD" && cat pyproject.toml constraints.txt)
  if [[ -f $record && $(<"$record") == "$wanted" ]]; then
    return
  fi
  say "creating .venv with $("$python" -V) (about a minute)"
  rm -rf .venv
  "$python" -m venv .venv
  local pip=(.venv/bin/python -m pip --disable-pip-version-check -qq install -c constraints.txt)
  # The build backend first, without build isolation: constraints do not apply to isolated builds.
  "${pip[@]}" hatchling editables
  "${pip[@]}" --no-build-isolation --editable '.[dev]'
  printf '%s\n' "$wanted" >"$record"
}

# --- in containers

find_compose() { # sets `compose` to the command
  if docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
  elif docker-compose version >/dev/null 2>&1; then
    compose=(docker-compose)
  else
    die "there is no \`docker compose\` here: install Docker with its compose plugin," \
      "or run without containers: ./deploy.sh -e"
  fi
  local answer
  answer=$("${compose[@]}" ls 2>&1) || die "the container engine does not answer" \
    "(${answer##*$'\n'}): start it, or run without containers: ./deploy.sh -e"
}

start_stack() {
  "${compose[@]}" up --detach --build --wait || {
    local code=$?
    "${compose[@]}" ps --all >&2
    "${compose[@]}" logs --tail 20 sample stats-worker >&2
    say "the stack is not healthy; its state and the end of its log are above"
    return $code
  }
  say "the stack is healthy. In $PWD:
  ${compose[*]} logs --follow stats-worker          show the log
  ${compose[*]} exec stats-worker statsd health     check the daemon
  ${compose[*]} down                                end the stack; --volumes deletes its data"
}

# --- options

tests='' keep='' embedded='' only_install=''
if [[ ${1:-} == --help ]]; then usage && exit; fi
while getopts :tNeih option; do
  case $option in
    t) tests=yes ;;
    N) keep=yes ;;
    e) embedded=yes ;;
    i) only_install=yes ;;
    h) usage && exit ;;
    *) usage >&2 && die "there is no option -$OPTARG" ;;
  esac
done
shift $((OPTIND - 1))
[[ $# == 0 || ((-n $tests || -n $embedded) && -z $only_install) ]] || {
  usage >&2
  die "unexpected argument $1"
}
[[ -z $keep || (-n $tests && -z $embedded) ]] || die "-N needs -t, and excludes -e"
[[ -z $only_install || (-n $embedded && -z $tests) ]] || die "-i needs -e, and excludes -t"

if [[ -n $embedded ]]; then
  unset DATABASE_URL REDIS_URL STATSD_TEST_DESTROYS_DATA
  make_venv
  [[ -z $only_install ]] || exit 0
  # Two files at a time, because tests wait for half of their time.
  [[ -z $tests ]] || exec .venv/bin/python -m pytest -n 2 --dist loadfile "$@"
  exec .venv/bin/statsd demo "$@"
fi

find_compose
if [[ -z $keep ]]; then
  start_stack
elif [[ -z $("${compose[@]}" ps --quiet --status running stats-worker) ]]; then
  die "the stack does not run, so -N has nothing to test: ./deploy.sh -t starts it"
fi
[[ -z $tests ]] || "${compose[@]}" run --rm --build --no-deps test "$@"
