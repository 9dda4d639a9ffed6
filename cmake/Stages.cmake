# One object library tp_<stage> for each stage folder, in pipeline order, and the library made of them all.

set(all_stages support uop rewrite derive tensor analysis passes propagate schedule codegen render cache linalg runtime engine)
if(NOT TINYPHYS_STAGES)
  set(TINYPHYS_STAGES ${all_stages})
endif()

add_library(tinyphys STATIC)
target_link_libraries(tinyphys PUBLIC fmt::fmt Threads::Threads $<BUILD_INTERFACE:tp_common> PRIVATE tp_quadmath)

# add_stage(NAME LIBRARIES SOURCES...): LIBRARIES is one list of interface targets.
function(add_stage name libraries)
  if(NOT ARGN)
    return()
  endif()
  add_library(tp_${name} OBJECT ${ARGN})
  target_link_libraries(tp_${name} PRIVATE tp_common tp_quadmath ${libraries})
  shared_headers(tp_${name} stages ${std_headers})
  target_sources(tinyphys PRIVATE $<TARGET_OBJECTS:tp_${name}>)
  target_link_libraries(tinyphys PRIVATE ${libraries})
endfunction()

set(libraries_linalg tp_blas tp_fftw)
set(libraries_runtime tp_blas)

foreach(stage IN LISTS TINYPHYS_STAGES)
  if(NOT stage IN_LIST all_stages)
    message(FATAL_ERROR "TINYPHYS_STAGES: '${stage}' is none of: ${all_stages}")
  endif()
  file(GLOB sources CONFIGURE_DEPENDS src/${stage}/*.cpp src/${stage}/*/*.cpp)
  if(stage STREQUAL runtime)
    set(llvm_sources ${sources})
    list(FILTER llvm_sources INCLUDE REGEX "/src/runtime/cpu/")
    list(FILTER sources EXCLUDE REGEX "/src/runtime/cpu/")
    if(NOT TINYPHYS_OPENCL)
      list(FILTER sources EXCLUDE REGEX "/src/runtime/opencl/")
    endif()
    add_stage(runtime_cpu "tp_llvm;${libraries_runtime}" ${llvm_sources})
  endif()
  add_stage(${stage} "${libraries_${stage}}" ${sources})
endforeach()
if(TARGET tp_support)
  target_include_directories(tp_support SYSTEM PRIVATE ${TINYPHYS_XXHASH_INCLUDE})
endif()

# What users link. Devices and passes register themselves by static objects that nothing refers to, and a
# linker drops such objects from an archive unless it is told to take the whole of it.
add_library(tinyphys_whole INTERFACE)
target_link_libraries(tinyphys_whole INTERFACE $<BUILD_INTERFACE:$<LINK_LIBRARY:WHOLE_ARCHIVE,tinyphys>>
                                               $<INSTALL_INTERFACE:$<LINK_LIBRARY:WHOLE_ARCHIVE,tinyphys::archive>>)
add_library(tinyphys::tinyphys ALIAS tinyphys_whole)

# Every public header compiles alone.
file(GLOB public_headers RELATIVE ${CMAKE_SOURCE_DIR}/include CONFIGURE_DEPENDS include/tinyphys/*.hpp)
set(header_checks)
foreach(header IN LISTS public_headers)
  string(MAKE_C_IDENTIFIER ${header} id)
  set(file ${CMAKE_BINARY_DIR}/header_checks/${id}.cpp)
  file(CONFIGURE OUTPUT ${file} CONTENT "#include \"@header@\"\n" @ONLY)
  list(APPEND header_checks ${file})
endforeach()
if(TINYPHYS_TESTS AND header_checks)
  add_library(tp_header_checks OBJECT ${header_checks})
  target_link_libraries(tp_header_checks PRIVATE tp_common)
  # A user has no src/ on the include path.
  set_target_properties(tp_header_checks PROPERTIES INCLUDE_DIRECTORIES ${CMAKE_SOURCE_DIR}/include)
endif()
