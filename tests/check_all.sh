#!/usr/bin/env bash
# check_all.sh - every test in every configuration; called by ./quickstart
# check after build/ was made. Prints one line per stage with its time, the
# log of a stage that failed, and at the end "N passed, N failed".
#   BISE_STAGES="gcc clang-san clang ref distcheck layers style"  picks stages;
#   "fuzz" (libFuzzer, each target for a while) runs only when it is named: the
#   seeds of every target are replayed by make check in any case
#   BISE_FUZZ_SECONDS=15 BISE_FUZZ_RUNS=20000   limits of each fuzz target
set -u
cd "$(dirname "$0")/.." || exit 1
top=$PWD
jobs=$(nproc 2>/dev/null || echo 2)
stages=${BISE_STAGES:-gcc clang-san clang ref distcheck layers style}
passed=0
failed=0

# Programs counted by "make check" in a log.
count() {
    p=$(awk '/^# PASS:/ {n += $3} END {print n + 0}' "$1")
    f=$(awk '/^# (FAIL|ERROR|XPASS):/ {n += $3} END {print n + 0}' "$1")
    passed=$((passed + p))
    failed=$((failed + f))
}

# stage NAME COMMAND...: run, time, show the end of the log on failure.
stage() {
    name=$1; shift
    log=$top/build/check-$name.log
    start=$(date +%s)
    if "$@" >"$log" 2>&1; then
        verdict=ok
    else
        verdict=FAILED
    fi
    before=$failed
    count "$log"
    [ "$verdict" = FAILED ] && [ "$failed" = "$before" ] && failed=$((failed + 1))
    [ "$verdict" = ok ] && ! grep -q '^# PASS:' "$log" && passed=$((passed + 1))
    printf '%-10s %-6s %4d s   %s\n' "$name" "$verdict" \
        $(($(date +%s) - start)) "$(grep -c '^skipped' "$log") skipped notes"
    if [ "$verdict" = FAILED ]; then
        grep -E '^(FAIL|ERROR)|error:|warning:|:[EF]:' "$log" | head -20
        tail -15 "$log"
    fi
}

# Configure DIR once with the given arguments and run make check there.
check_in() {
    dir=$1; shift
    mkdir -p "$dir" &&
    { [ -f "$dir/Makefile" ] || (cd "$dir" && "$top/configure" -q "$@"); } &&
    make -C "$dir" -j"$jobs" all && make -C "$dir" -j"$jobs" check
    status=$?
    cat "$dir"/tests/*.log "$dir"/tests/cli/*.log 2>/dev/null | grep '^skipped'
    [ "$status" = 0 ] || cat "$dir"/test-suite.log 2>/dev/null | tail -100
    return $status
}

# The judges answer once, in the first stage; the others compare bise with
# itself.
alone() { BISE_JUDGES= "$@"; }

run_ref() { BISE_JUDGES= BISE_CPU=ref check_in build; }

# The limits are those of the tracked files: build/ may hold a whole Python.
run_style() {
    rm -rf build/style && mkdir -p build/style &&
    git ls-files -z | xargs -0 cp --parents -t build/style &&
    python3 "$1" --limits --layers build/style
}

run_fuzz() {
    mkdir -p build-fuzz &&
    { [ -f build-fuzz/Makefile ] ||
      (cd build-fuzz && "$top/configure" -q CC=clang --enable-fuzzers \
          --enable-sanitizers); } &&
    make -C build-fuzz -j"$jobs" fuzzers || return 1
    for f in build-fuzz/tests/fuzz/fuzz_*; do
        case $f in *.o|*.log|*.trs) continue ;; esac
        [ -x "$f" ] || continue
        n=$(basename "$f" | sed 's/^fuzz_//')
        mkdir -p "build-fuzz/corpus/$n"
        echo "== $n"
        "$f" -seed=1 -runs="${BISE_FUZZ_RUNS:-20000}" -timeout=20 \
            -max_total_time="${BISE_FUZZ_SECONDS:-15}" -rss_limit_mb=2048 -print_final_stats=0 -verbosity=0 \
            "build-fuzz/corpus/$n" "tests/fuzz/seeds/$n" || return 1
    done
}

for s in $stages; do
    case $s in
    gcc) stage gcc check_in build-gcc CC=gcc --enable-werror ;;
    clang) if command -v clang >/dev/null; then
               stage clang alone check_in build-clang CC=clang --enable-werror
           else echo "clang      skipped: not installed"; fi ;;
    clang-san) if command -v clang >/dev/null; then
               stage clang-san alone check_in build-san CC=clang --enable-werror \
                   --enable-sanitizers
           else echo "clang-san  skipped: clang is not installed"; fi ;;
    ref) stage ref run_ref ;;
    fuzz) if command -v clang >/dev/null; then stage fuzz run_fuzz
          else echo "fuzz       skipped: clang is not installed"; fi ;;
    distcheck) stage distcheck alone make -C build -j"$jobs" distcheck ;;
    layers) stage layers sh tests/check_layers.sh ;;
    style) tool=${BISE_SHARED:-../shared}/tools/style_stats.py
           if [ -f "$tool" ]; then
               stage style run_style "$tool"
           else echo "style      skipped: no $tool"; fi ;;
    esac
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
