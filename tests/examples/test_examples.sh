#!/bin/bash
# test_examples.sh FOLDER: the short examples run, print what a physicist can check, and draw.
set -uo pipefail
export LC_ALL=C
programs=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

# check NAME PATTERN ARGS...: the program ends well, a line matches, and its plot is there.
check() {
  local name=$1 pattern=$2
  shift 2
  "$programs/$name" "$@" >out 2>err || fail "$name: exit code $?: $(cat err)"
  grep -Eq "$pattern" out || fail "$name: no line like '$pattern': $(cat out)"
  [ -s "$name.svg" ] || fail "$name: no plot"
}

# Long loops of small kernels: a minute each on a device whose launches take longer than such a kernel.
long_loops() {
  [ "${TINYPHYS_DEVICE:-cpu}" = cpu ] && return 0
  echo "left out on $TINYPHYS_DEVICE: $*"
  return 1
}

check crystal_lattice 'measured frequencies differ from the closed form by at most [0-9.]+e-1[0-9]' 64 1000000
check crystal_lattice 'chose    Fourier-mode jump' 64 1000000
check rlc_circuit 'at most [0-9.]+e-0[6-9] of 5 uC'
check rlc_circuit 'chose    powered step matrix'
check heat_rod 'relative difference (0.0e\+00|[0-9.]+e-1[0-9])'
check cyclotron 'drift .* relative difference (0.0e\+00|[0-9.]+e-1[3-9])'
check outer_solar_system 'its relative error stays below [1-3]\.[0-9]e-04'
check outer_solar_system 'refused  jump: sqrt'
if long_loops solar_system_projection; then
  check solar_system_projection 'projected at most [1-9]\.[0-9]e-1[4-6]'
  check solar_system_projection 'projected on energy, momentum x'
fi
check comet 'relative energy error at most [0-9.]+e-(09|1[0-9]), allowed'
check comet 'TimeWarp by the logarithmic Hamiltonian'
check tunnelling 'difference [0-9.]+e-(09|1[0-9])'
check tunnelling 'a Chebyshev series of [0-9]+ terms for R t'
check ground_state 'published  1.0603620904841[78], difference (0.0e\+00|[0-9.]+e-1[2-9])'
check double_slit 'dark at    k_y = 0\.50[0-9]+ and -0\.50[0-9]+; Young: \+-pi / d = 0\.5027'
check double_slit '2 times by one recurrence'
check henon_heiles_spectrum 'at most [0-5]\.[0-9]e-05 from the published ones'
check henon_heiles_spectrum 'states below 6\.5: 2[01]\.[0-9] by the density of states, 21 by the levels'
check ensemble 'largest difference from cos\(N theta\) is [0-9.]+e-1[4-9]'
check throw_the_ball 'it misses the hand by [0-9.]+e-0[89] m' 20000
check throw_the_ball 'backward, each step undone, [0-9.]+ kB of states whatever the steps' 20000
if long_loops fit_springs; then
  check fit_springs 'recovered to [0-9.]+e-(0[89]|1[0-9]) N/m'
fi
check respa_chain 'leapfrog needs [0-9.]+ times the sums over the pairs'
check respa_chain 'RESPA, 2 levels: kicks by "pairs" once, by "bonds" 10 times'
if long_loops fermi_pasta_ulam; then
  check fermi_pasta_ulam 'step 0.1: split [0-9.]+e-0[1-9], leapfrog (nan|inf|[0-9.]+e\+)'
  check fermi_pasta_ulam 'chose    the loop of split steps'
fi
"$programs/plain_loop" 20000 >out 2>err || fail "plain_loop: exit code $?: $(cat err)"
for pattern in 'apart     scan (0e\+00|[0-9]e-1[4-9]), System (0e\+00|[0-9]e-1[3-9])' 'folded 19,9[0-9][0-9] passes of plain_loop.cpp:[0-9]+-[0-9]+ into a scan' \
  'proved   the step is affine in its carry'; do
  grep -Eq "$pattern" out || fail "plain_loop: no line like '$pattern': $(cat out)"
done
"$programs/crystal_lattice" 3 >out 2>err && fail "crystal_lattice 3: no error"
exit $((failures > 0))
