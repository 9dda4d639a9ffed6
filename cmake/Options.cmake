# What the user may set, and the flags that every one of our translation units gets.

option(TINYPHYS_FFTW "Use FFTW for transforms on the CPU (FFTW is GPL)" ON)
find_path(TINYPHYS_OPENCL_HEADERS CL/cl.h)
if(TINYPHYS_OPENCL_HEADERS)
  set(opencl_default ON)
else()
  set(opencl_default OFF)
endif()
option(TINYPHYS_OPENCL "Build the OpenCL device: needs the headers here, and looks for its loader at run time" ${opencl_default})
option(TINYPHYS_TESTS "Build the tests" ON)
set(TINYPHYS_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize= takes them: address,undefined or thread")
set(TINYPHYS_STAGES "" CACHE STRING "Only these stage folders of src/ (empty: all that have sources)")
set(TINYPHYS_TEST_FILTER "" CACHE STRING "Only test files whose path matches this regular expression")

# Half of what it takes to compile one of our files is parsing them. The sanitizers and clang do without: there a file that does
# not include what it uses is found.
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND TINYPHYS_SANITIZE STREQUAL "")
  set(pch_default ON)
else()
  set(pch_default OFF)
endif()
option(TINYPHYS_PCH "Parse the headers of the standard library, fmt, doctest and the API once" ${pch_default})

# shared_headers(TARGET KIND HEADERS...): the first target of a kind parses them, the others of the same flags reuse that.
function(shared_headers target kind)
  if(NOT TINYPHYS_PCH)
    return()
  endif()
  get_property(owner GLOBAL PROPERTY TINYPHYS_PCH_OF_${kind})
  if(owner)
    target_precompile_headers(${target} REUSE_FROM ${owner})
  else()
    target_precompile_headers(${target} PRIVATE ${ARGN})
    set_property(GLOBAL PROPERTY TINYPHYS_PCH_OF_${kind} ${target})
  endif()
  # Files with flags of their own parse them again.
  set_target_properties(${target} PROPERTIES PCH_WARN_INVALID OFF)
  target_compile_options(${target} PRIVATE -fpch-preprocess)
endfunction()
set(std_headers
    <algorithm> <array> <atomic> <chrono> <cmath> <complex> <cstdint> <functional> <limits> <map> <memory> <mutex>
    <numeric> <optional> <random> <span> <string> <string_view> <tuple> <unordered_map> <utility> <variant> <vector>
    <fmt/format.h>)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug or Release" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g0 -DNDEBUG")
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g")
if(NOT DEFINED CMAKE_COMPILE_WARNING_AS_ERROR)
  set(CMAKE_COMPILE_WARNING_AS_ERROR ON)
endif()

if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(TINYPHYS_CCACHE ccache)
  if(TINYPHYS_CCACHE)
    # It takes precompiled headers only where it may trust that nothing defines macros before them.
    set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros ${TINYPHYS_CCACHE})
  endif()
endif()

add_library(tp_common INTERFACE)
target_include_directories(tp_common INTERFACE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
# No contraction of a*b+c: the bits of a result must not depend on the compiler.
target_compile_options(tp_common INTERFACE -ffp-contract=off -Wall -Wextra -Wpedantic -Wshadow)
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  # libstdc++ 12 deprecates a function that its own stable_sort calls; clang lays that at our door.
  target_compile_options(tp_common INTERFACE -Wno-deprecated-declarations)
endif()
# Programs take all objects of the library; --as-needed then drops shared libraries that none of them uses.
target_link_options(tp_common INTERFACE LINKER:--as-needed)

if(TINYPHYS_SANITIZE)
  set(sanitize -fsanitize=${TINYPHYS_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
    # The function check reads the bytes before a callee; before generated code there may be no page.
    list(APPEND sanitize -fno-sanitize=function)
  endif()
  target_compile_options(tp_common INTERFACE ${sanitize} -O1 -g1)
  target_link_options(tp_common INTERFACE ${sanitize})
endif()
