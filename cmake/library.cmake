# The C library: libsdr, shared and static, its headers, and what finds it (pkg-config, find_package(sdr)).
# Public symbols are those of the published headers alone; everything else stays inside both kinds of library.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(SDR_LIB_VERSION 0.1.0)
set(SDR_LIB_HEADERS native/lib/include/sdr.h native/lib/include/sdr_mr.h native/lib/include/sdr_ext.h)
file(GLOB SDR_LIB_SOURCES CONFIGURE_DEPENDS native/lib/*.cc)

add_library(sdr_objects OBJECT ${SDR_LIB_SOURCES})
target_include_directories(sdr_objects PUBLIC native/lib/include PRIVATE native)
target_link_libraries(sdr_objects PUBLIC sdr_core)
# GCC 12 sees overlaps where a string follows a literal; there are none (its bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(sdr_objects PRIVATE -Wno-restrict)
endif()

add_library(sdr_shared SHARED $<TARGET_OBJECTS:sdr_objects>)
add_library(sdr::sdr ALIAS sdr_shared)
set_target_properties(sdr_shared PROPERTIES OUTPUT_NAME sdr VERSION ${SDR_LIB_VERSION} SOVERSION 0 EXPORT_NAME sdr)
target_include_directories(sdr_shared INTERFACE
  $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/native/lib/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(sdr_shared PRIVATE sdr_core ${CMAKE_DL_LIBS})
set(SDR_HAS_BINUTILS FALSE)
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  set(SDR_HAS_BINUTILS TRUE)
  set(SDR_EXPORTS ${CMAKE_CURRENT_SOURCE_DIR}/native/lib/exports.map)
  target_link_options(sdr_shared PRIVATE "LINKER:--version-script=${SDR_EXPORTS}")
  set_target_properties(sdr_shared PROPERTIES LINK_DEPENDS ${SDR_EXPORTS})
endif()

# One object with all of it, whose hidden symbols then become local, so that a program's names never meet ours.
set(SDR_STATIC_OBJECTS $<TARGET_OBJECTS:sdr_objects> $<TARGET_OBJECTS:sdr_core>)
if(SDR_HAS_BINUTILS AND CMAKE_OBJCOPY AND NOT SDR_SANITIZE)
  set(SDR_ONE_OBJECT ${CMAKE_CURRENT_BINARY_DIR}/libsdr-one.o)
  add_custom_command(
    OUTPUT ${SDR_ONE_OBJECT}
    COMMAND ${CMAKE_LINKER} -r -o ${SDR_ONE_OBJECT} ${SDR_STATIC_OBJECTS}
    COMMAND ${CMAKE_OBJCOPY} --localize-hidden ${SDR_ONE_OBJECT}
    DEPENDS sdr_objects sdr_core ${SDR_STATIC_OBJECTS}
    COMMAND_EXPAND_LISTS VERBATIM)
  set(SDR_STATIC_OBJECTS ${SDR_ONE_OBJECT})
  set_source_files_properties(${SDR_ONE_OBJECT} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
endif()
add_library(sdr_static STATIC ${SDR_STATIC_OBJECTS})
set_target_properties(sdr_static PROPERTIES OUTPUT_NAME sdr EXPORT_NAME sdr_static LINKER_LANGUAGE CXX)
target_include_directories(sdr_static INTERFACE
  $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/native/lib/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(sdr_static INTERFACE Threads::Threads ${CMAKE_DL_LIBS})

install(TARGETS sdr_shared sdr_static EXPORT sdrTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT sdr ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT sdr)
install(FILES ${SDR_LIB_HEADERS} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT sdr)
install(EXPORT sdrTargets NAMESPACE sdr:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/sdr COMPONENT sdr)
configure_package_config_file(cmake/sdrConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/sdrConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/sdr)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/sdrConfigVersion.cmake
  VERSION ${SDR_LIB_VERSION} COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/sdrConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/sdrConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/sdr COMPONENT sdr)
# Relative to where the file lies: an installation can be moved.
file(RELATIVE_PATH SDR_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/sdr.pc.in ${CMAKE_CURRENT_BINARY_DIR}/sdr.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/sdr.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT sdr)

# Example programs, and one that makes every call: C, over the shared library.
if(SDR_TESTS)
  file(GLOB SDR_C_PROGRAMS CONFIGURE_DEPENDS examples/c/*.c test/lib/*.c)
  foreach(source ${SDR_C_PROGRAMS})
    get_filename_component(name ${source} NAME_WE)
    add_executable(c_${name} ${source})
    set_target_properties(c_${name} PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF)
    target_compile_options(c_${name} PRIVATE -pedantic -Werror)
    target_link_libraries(c_${name} PRIVATE sdr_shared Threads::Threads)
  endforeach()
endif()
