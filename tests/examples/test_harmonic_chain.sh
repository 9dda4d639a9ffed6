#!/bin/bash
# test_harmonic_chain.sh PROGRAM CHAIN.CSV
#
# Energy conservation, loop against jump, integrators, what is refused, and the plots.
set -uo pipefail
export LC_ALL=C

program=$1
chain=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

# run NAME ARGS...: runs the program; its output is in NAME.out and NAME.err.
run() {
  local name=$1
  shift
  "$program" "$@" >"$name.out" 2>"$name.err"
  local code=$?
  [ $code -eq 0 ] || fail "$*: exit code $code: $(cat "$name.err")"
}

# refused CODE TEXT ARGS...: the program ends with that exit code and one line on stderr that has the text.
refused() {
  local want=$1 text=$2
  shift 2
  "$program" --no-plot --steps 1 "$@" >refused.out 2>refused.err
  local code=$?
  [ $code -eq "$want" ] || fail "$*: exit code $code, not $want"
  [ "$(wc -l <refused.err)" -eq 1 ] || fail "$*: not one line on stderr: $(cat refused.err)"
  grep -qF -- "$text" refused.err || fail "$*: '$(cat refused.err)' does not say '$text'"
}

# The positions that a run printed, one a line.
positions() { grep '^positions' "$1.out" | grep -oE '= [^ ]+' | cut -c 3-; }

# close A B: the positions of two runs agree to 1e-8 of the largest.
close() {
  paste <(positions "$1") <(positions "$2") | awk -v a="$1" -v b="$2" '
    function abs(x) { return x < 0 ? -x : x }
    { n++; d = abs($1 - $2); if (d > worst) worst = d; if (abs($1) > size) size = abs($1) }
    END { exit !(n >= 1 && worst <= 1e-8 * size) }' || fail "positions of $1 and $2 differ"
}

# --- energy ---------------------------------------------------------------------------------------------------

# Leapfrog's own error in H is bounded by the number that the program prints; rounding comes on top.
for steps in 0 1 1000 1000000000; do
  run "energy_$steps" --no-plot --steps $steps
  grep '^energy' "energy_$steps.out" |
    sed -E 's/.*relative difference ([^ ]+) \(leapfrog keeps it within ([^)]+)\)/\1 \2/' |
    awk '{ d = $1 < 0 ? -$1 : $1; found = 1; if (!(d <= $2 + 1e-10)) exit 1 } END { exit !found }' ||
    fail "energy after $steps steps: $(grep '^energy' "energy_$steps.out")"
done
grep -q 'relative difference 0.0e+00' energy_0.out || fail "0 steps change the energy"
grep -q '^chose.*jump' energy_1000000000.out || fail "a billion steps are not reported as a jump"

run midpoint --no-plot --steps 1000000 --integrator midpoint
run exact --no-plot --steps 1000000 --integrator exact
for name in midpoint exact; do
  grep '^energy' $name.out | sed -E 's/.*relative difference ([^ ]+) .*/\1/' |
    awk '{ d = $1 < 0 ? -$1 : $1; found = 1; if (!(d <= 1e-9)) exit 1 } END { exit !found }' ||
    fail "$name does not conserve the energy: $(grep '^energy' $name.out)"
done

# --- loop against jump ----------------------------------------------------------------------------------------

for integrator in kdk dkd; do
  run "jump_$integrator" --no-plot --steps 20000 --integrator $integrator
  run "loop_$integrator" --no-plot --steps 20000 --integrator $integrator --method loop
  close "jump_$integrator" "loop_$integrator"
done

# --- files that are read --------------------------------------------------------------------------------------

printf '\xef\xbb\xbf# two masses\r\n spring , p, mass,q \r\n\r\n1e1, 0, +2.5E-1 ,1e-2 # left\r\n10,0,.25,0\r\n' >spread.csv
printf 'mass,spring,q,p\n0.25,10,0.01,0\n0.25,10,0,0\n' >plain.csv
run spread --no-plot --steps 5000 --input spread.csv
run plain --no-plot --steps=5000 --input=plain.csv
close spread plain
printf 'mass,spring\n1,1' >one.csv
run one --no-plot --steps 1000 --input one.csv
printf 'mass,spring\n1,2\n3,0\n' >free.csv
run free --steps 1e6 --input free.csv --plot free_plots
grep -q 'left spring 0 N/m, right spring 0 N/m' free.out || fail "a chain with free ends is not read as such"

# --- what is refused ------------------------------------------------------------------------------------------

refused 2 'nowhere.csv: cannot be opened' --input nowhere.csv
refused 2 'is a folder' --input .
bad() {  # bad TEXT CONTENT
  printf "$2" >bad.csv
  refused 2 "$1" --input bad.csv
}
bad 'bad.csv: is empty' ''
bad 'bad.csv: is empty' '# only a comment\n'
bad 'bad.csv:1: no rows' 'mass,spring\n'
bad "bad.csv:2: column 'spring' is missing" '# a\nmass,q\n1,2\n'
bad "bad.csv:1: column 'weight'" 'weight,spring\n1,2\n'
bad "bad.csv:1: column 'mass' stands here twice" 'mass,spring,mass\n1,2,3\n'
bad "bad.csv:3: mass is 'x1'; it must be a number" 'mass,spring\n1,2\nx1,2\n'
bad "bad.csv:2: spring is ''; it must be a number" 'mass,spring\n1,\n'
bad "bad.csv:2: spring is '1e999'" 'mass,spring\n1,1e999\n'
bad "bad.csv:2: mass is '1 2'" 'mass,spring\n1 2,1\n'
bad 'bad.csv:2: mass is nan; it must be finite' 'mass,spring\nnan,2\n'
bad 'bad.csv:2: q is inf; it must be finite' 'mass,spring,q\n1,2,inf\n'
bad 'bad.csv:4: mass is -1; it must be positive' '# c\nmass,spring\n1,2\n-1,2\n'
bad 'bad.csv:2: mass is 0; it must be positive' 'mass,spring\n0,2\n'
bad 'bad.csv:2: spring is -3; it must be 0 or more' 'mass,spring\n1,-3\n'
bad 'bad.csv:3: 1 cells, but the header has 2' 'mass,spring\n1,2\n1\n'
refused 2 '--steps -1: must be 0 or more' --steps -1
refused 2 '--steps 1.5: must be a whole number' --steps 1.5
refused 2 '--steps many' --steps many
refused 2 '--dt inf: must be a finite number' --dt inf
refused 2 '--dt nan: must be a finite number' --dt nan
refused 2 '--dt 0: must not be 0' --dt 0
refused 2 '--left-wall -1' --left-wall -1
refused 2 '--integrator euler: must be one of kdk, dkd, exact, midpoint' --integrator euler
refused 2 '--method fast: must be one of default, loop' --method fast
refused 2 'unknown option --stepz' --stepz 3
refused 2 '--dt needs a value' --dt
refused 2 '--no-plot takes no value' --no-plot=1
refused 2 'cannot make the folder' --plot "$chain/plots"

# --- the step is too long: growth, and a report of it, but no error --------------------------------------------

run unstable --steps 100000 --dt 1 --plot unstable_plots
grep -q 'unstable' unstable.out || fail "an unstable step is not called so"

# --- plots ----------------------------------------------------------------------------------------------------

run plots --steps 1000000000 --plot new/folder
grep -q "The last seconds, after 1000000000 steps" new/folder/motion.svg || fail "the last seconds are not drawn"
run short --steps 10 --plot short_plots
for file in new/folder short_plots free_plots unstable_plots; do
  for plot in "$file/spectrum.svg" "$file/motion.svg"; do
    if [ ! -s "$plot" ]; then
      fail "$plot was not written"
      continue
    fi
    if command -v python3 >/dev/null; then
      python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' "$plot" || fail "$plot is not XML"
    fi
    # Without a parser at hand: every tag is closed by its like.
    grep -oE '<[^>]*>' "$plot" | awk '
      /^<\?/ || /\/>$/ { next }
      /^<\// { if ("<" substr($1, 3, length($1) - 3) != open[depth--]) exit 1; next }
      { sub(/>$/, "", $1); open[++depth] = $1 }
      END { exit depth != 0 }' || fail "the tags of $plot are not balanced"
    grep -qE 'nan|inf' <(sed 's/base64,[^"'"'"']*//' "$plot") && fail "$plot has coordinates that are no numbers"
  done
done

"$program" --help | grep -q -- --input || fail "--help does not help"

[ $failures -eq 0 ] && echo "harmonic_chain: all checks passed"
[ $failures -eq 0 ]
