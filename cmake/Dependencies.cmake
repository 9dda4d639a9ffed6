# Outside libraries, each behind one interface target, so that only the stages that name it see its headers.

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(fmt CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)  # headers only
target_link_libraries(tp_common INTERFACE fmt::fmt Threads::Threads)

# Header only, and compiled in: the hash of a kernel key must not follow the installed library.
find_path(TINYPHYS_XXHASH_INCLUDE xxhash.h REQUIRED)

# "19.1", not "19": Debian's version file wants major and minor to agree.
find_package(LLVM 19.1 CONFIG REQUIRED)
add_library(tp_llvm INTERFACE)
separate_arguments(llvm_definitions NATIVE_COMMAND "${LLVM_DEFINITIONS}")
target_include_directories(tp_llvm SYSTEM INTERFACE $<BUILD_INTERFACE:${LLVM_INCLUDE_DIRS}>)
target_compile_definitions(tp_llvm INTERFACE ${llvm_definitions})
target_link_libraries(tp_llvm INTERFACE LLVM)

pkg_check_modules(OPENBLAS REQUIRED IMPORTED_TARGET openblas)
pkg_check_modules(LAPACKE REQUIRED IMPORTED_TARGET lapacke)
add_library(tp_blas INTERFACE)
target_link_libraries(tp_blas INTERFACE PkgConfig::LAPACKE PkgConfig::OPENBLAS)

add_library(tp_fftw INTERFACE)
if(TINYPHYS_FFTW)
  pkg_check_modules(FFTW REQUIRED IMPORTED_TARGET fftw3)
  pkg_check_modules(FFTWF REQUIRED IMPORTED_TARGET fftw3f)  # in single precision
  target_link_libraries(tp_fftw INTERFACE PkgConfig::FFTW PkgConfig::FFTWF)
  target_compile_definitions(tp_fftw INTERFACE TINYPHYS_HAVE_FFTW=1)
endif()

# libquadmath belongs to gcc. clang finds the library beside libgcc but not the header: gcc's own include
# folder is not for clang as a whole, so the one header is copied out of it.
add_library(tp_quadmath INTERFACE)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  target_link_libraries(tp_quadmath INTERFACE quadmath)
else()
  file(GLOB gcc_folders /usr/lib/gcc/x86_64-linux-gnu/*)
  list(SORT gcc_folders COMPARE NATURAL ORDER DESCENDING)
  list(TRANSFORM gcc_folders APPEND /include OUTPUT_VARIABLE gcc_includes)
  find_path(TINYPHYS_QUADMATH_INCLUDE quadmath.h PATHS ${gcc_includes} NO_DEFAULT_PATH REQUIRED)
  find_library(TINYPHYS_QUADMATH_LIBRARY quadmath PATHS ${gcc_folders} REQUIRED)
  set(quadmath_copy ${CMAKE_BINARY_DIR}/quadmath)
  configure_file(${TINYPHYS_QUADMATH_INCLUDE}/quadmath.h ${quadmath_copy}/quadmath.h COPYONLY)
  target_include_directories(tp_quadmath SYSTEM INTERFACE $<BUILD_INTERFACE:${quadmath_copy}>)
  target_link_libraries(tp_quadmath INTERFACE $<BUILD_INTERFACE:${TINYPHYS_QUADMATH_LIBRARY}>
                                              $<INSTALL_INTERFACE:quadmath>)
endif()
