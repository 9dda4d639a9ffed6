# Programs: tests, fuzzers, examples, tools, benchmarks. Each folder is skipped while it has no sources.

function(add_program name folder)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE tinyphys::tinyphys)
  target_compile_definitions(${name} PRIVATE TINYPHYS_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/${folder})
  if(folder MATCHES "examples|snippets")
    shared_headers(${name} programs ${std_headers} <tinyphys/tinyphys.hpp>)
  endif()
endfunction()

# add_test_program(NAME SUMMARY SOURCES...): registered in CTest. The program leaves its counts of test cases in
# test_summary/SUMMARY.txt, where tools/check adds them up. A fuzzer may bring its own main().
function(add_test_program name summary)
  add_program(${name} tests ${ARGN})
  target_link_libraries(${name} PRIVATE doctest::doctest)
  # Compiling the tests takes longer than running them.
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  target_compile_definitions(${name} PRIVATE DOCTEST_CONFIG_SUPER_FAST_ASSERTS)
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  set(own_main)
  foreach(source IN LISTS ARGN)
    file(STRINGS ${source} found REGEX "^int main\\(")
    list(APPEND own_main ${found})
  endforeach()
  if(NOT own_main)
    target_sources(${name} PRIVATE $<TARGET_OBJECTS:tests_main>)
  endif()
  add_test(NAME ${name} COMMAND ${name} --summary=${CMAKE_BINARY_DIR}/test_summary/${summary}.txt)
endfunction()

# The tests of this folder keep off the user's cache of kernels, and off PoCL's: their own of this build, or none.
function(use_test_cache)
  get_property(tests DIRECTORY PROPERTY TESTS)
  if(tests)
    set_property(TEST ${tests} APPEND PROPERTY ENVIRONMENT TINYPHYS_CACHE_DIR=${CMAKE_BINARY_DIR}/test_cache
                 POCL_CACHE_DIR=${CMAKE_BINARY_DIR}/pocl_cache
                 LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tools/ci/lsan.supp:print_suppressions=0)
  endif()
endfunction()

# Every rule of every list, for every op, is instantiated there: minutes of optimisation for a test of seconds.
set_source_files_properties(tests/unit/test_rules.cpp PROPERTIES COMPILE_OPTIONS "-O0" SKIP_PRECOMPILE_HEADERS ON)

if(TINYPHYS_TESTS)
  enable_testing()
  find_package(doctest CONFIG REQUIRED)
  add_library(tests_main OBJECT tests/main.cpp)
  target_link_libraries(tests_main PRIVATE tp_common doctest::doctest)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/test_summary)

  foreach(group null unit backend physics)
    file(GLOB sources CONFIGURE_DEPENDS tests/${group}/test_*.cpp)
    list(FILTER sources INCLUDE REGEX "${TINYPHYS_TEST_FILTER}")
    if(NOT TINYPHYS_OPENCL)
      list(FILTER sources EXCLUDE REGEX "/test_opencl")
    endif()
    if(sources)
      add_test_program(tests_${group} ${group} ${sources})
      shared_headers(tests_${group} tests ${std_headers} <doctest/doctest.h>)
    endif()
  endforeach()
  # The same tests on a device whose memory the host cannot reach.
  foreach(group unit backend physics)
    if(TARGET tests_${group})
      add_test(NAME tests_${group}_island
               COMMAND tests_${group} --summary=${CMAKE_BINARY_DIR}/test_summary/${group}_island.txt)
      set_tests_properties(tests_${group}_island PROPERTIES ENVIRONMENT TINYPHYS_DEVICE=island)
      if(NOT group STREQUAL backend)
        set_tests_properties(tests_${group}_island PROPERTIES LABELS long)
      endif()
    endif()
  endforeach()
  # And on an OpenCL device, where there is one: those of kernels.
  if(TINYPHYS_OPENCL AND TARGET tests_backend)
    add_test(NAME tests_backend_opencl
             COMMAND tests_backend --summary=${CMAKE_BINARY_DIR}/test_summary/backend_opencl.txt)
    set_tests_properties(tests_backend_opencl PROPERTIES ENVIRONMENT TINYPHYS_DEVICE=cl SKIP_RETURN_CODE 77 LABELS long)
    add_test(NAME tests_opencl COMMAND tests_backend --source-file=*test_opencl*
                                       --summary=${CMAKE_BINARY_DIR}/test_summary/opencl.txt)
    set_tests_properties(tests_opencl PROPERTIES ENVIRONMENT TINYPHYS_DEVICE=cl SKIP_RETURN_CODE 77)
  endif()
  file(GLOB sources CONFIGURE_DEPENDS tests/fuzz_*.cpp)
  list(FILTER sources INCLUDE REGEX "${TINYPHYS_TEST_FILTER}")
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM name)
    add_test_program(${name} ${name} ${source})
  endforeach()

  # Random graphs by every evaluator, in two halves side by side. That it finds a bug is seen by one that is planted.
  file(GLOB sources CONFIGURE_DEPENDS tests/fuzz/*.cpp)
  if(NOT TINYPHYS_TEST_FILTER)
    add_program(fuzz tests ${sources})
    target_include_directories(fuzz PRIVATE ${CMAKE_SOURCE_DIR}/tests)
    foreach(half 1 2)
      math(EXPR seed "${half} * 1000 - 999")
      add_test(NAME fuzz_${half} COMMAND fuzz --graphs 1000 --seed ${seed} --unfused 40 --opencl 500)
    endforeach()
    add_test(NAME fuzz_finds COMMAND ${CMAKE_SOURCE_DIR}/tests/fuzz/finds $<TARGET_FILE:fuzz>)
  endif()
endif()

file(GLOB sources CONFIGURE_DEPENDS examples/*.cpp)
foreach(source IN LISTS sources)
  cmake_path(GET source STEM name)
  add_program(${name} examples ${source})
endforeach()

file(GLOB sources CONFIGURE_DEPENDS tools/cache/*.cpp)
if(sources)
  add_program(tinyphys-cache tools ${sources})
  install(TARGETS tinyphys-cache)
endif()

file(GLOB sources CONFIGURE_DEPENDS tools/viz/*.cpp)
if(sources)
  add_program(tinyphys-viz tools ${sources})
  target_compile_definitions(tinyphys-viz PRIVATE TINYPHYS_VIZ_VERSION="${PROJECT_VERSION}")
  install(TARGETS tinyphys-viz)
endif()

# The references that benchmarks compare with are plain -O3 code, in every preset.
file(GLOB sources CONFIGURE_DEPENDS tools/bench/*.cpp)
file(GLOB reference_sources CONFIGURE_DEPENDS tools/bench/reference/*.cpp)
if(sources)
  add_program(tinyphys-bench tools/bench ${sources})
  target_link_libraries(tinyphys-bench PRIVATE tp_blas tp_fftw)
  if(reference_sources)
    add_library(bench_reference OBJECT ${reference_sources})
    target_compile_options(bench_reference PRIVATE -O3 -ffp-contract=off -Wall -Wextra)
    set_source_files_properties(
      tools/bench/reference/native.cpp PROPERTIES COMPILE_OPTIONS "-march=native;-ffast-math;-ffp-contract=fast")
    set_source_files_properties(tools/bench/reference/plain.cpp PROPERTIES COMPILE_OPTIONS
                                                                           "-march=native;-ffp-contract=fast")
    target_include_directories(bench_reference PRIVATE ${CMAKE_SOURCE_DIR}/tools/bench)
    target_link_libraries(bench_reference PRIVATE tp_blas tp_fftw)
    target_sources(tinyphys-bench PRIVATE $<TARGET_OBJECTS:bench_reference>)
  endif()
endif()

# Tests of finished programs and of the documentation; they name targets from above.
if(TINYPHYS_TESTS)
  foreach(folder cache examples messages snippets viz)
    if(EXISTS ${CMAKE_SOURCE_DIR}/tests/${folder}/CMakeLists.txt)
      add_subdirectory(tests/${folder})
    endif()
  endforeach()
endif()

# The installed package, as another project uses it.
if(TINYPHYS_TESTS AND NOT TINYPHYS_TEST_FILTER)
  list(JOIN sanitize " " outside_flags)
  add_test(NAME outside_project
           COMMAND ${CMAKE_SOURCE_DIR}/tests/outside_project/run ${CMAKE_BINARY_DIR}
                   -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER} -DCMAKE_CXX_FLAGS=${outside_flags}
                   -DCMAKE_CXX_COMPILER_LAUNCHER=${TINYPHYS_CCACHE})
endif()
if(TINYPHYS_TESTS)
  use_test_cache()
endif()
