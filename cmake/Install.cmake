# What `cmake --install` puts under a prefix: the headers, the library, and a package that find_package(tinyphys) finds.
# Nothing in it names the build tree or the prefix, so that an installed folder may be moved.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# "tinyphys::tinyphys" is the same in the build and in the package; the archive behind it goes by a name of its own.
target_include_directories(tinyphys INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(tinyphys INTERFACE cxx_std_20)
set_target_properties(tinyphys PROPERTIES EXPORT_NAME archive)
set_target_properties(tinyphys_whole PROPERTIES EXPORT_NAME tinyphys)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/tinyphys)
install(TARGETS tinyphys tinyphys_whole tp_llvm tp_blas tp_fftw tp_quadmath EXPORT tinyphys)
install(EXPORT tinyphys FILE tinyphysTargets.cmake NAMESPACE tinyphys:: DESTINATION ${package_folder})
install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/tinyphys DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

configure_package_config_file(${CMAKE_SOURCE_DIR}/cmake/tinyphysConfig.cmake.in
                              ${CMAKE_BINARY_DIR}/package/tinyphysConfig.cmake
                              INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/package/tinyphysConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/package/tinyphysConfig.cmake
              ${CMAKE_BINARY_DIR}/package/tinyphysConfigVersion.cmake
        DESTINATION ${package_folder})
