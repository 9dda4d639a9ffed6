#!/bin/bash
# with_opencl.sh PROBE COMMAND...: runs the command with the first OpenCL device. Where the program PROBE is told that there
# is none, says so and ends with exit code 77.
export TINYPHYS_DEVICE=cl
probe=$1
shift
if ! said=$("$probe" 100 2>&1) && grep -q 'no OpenCL' <<<"$said"; then
  echo "skipped: $(grep 'no OpenCL' <<<"$said")"
  exit 77
fi
exec "$@"
