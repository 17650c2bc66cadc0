# DOCA's FlexIO, where it is installed: the device program by dpacc. Nothing here was ever run on a machine with DOCA;
# without it this file says so and changes nothing: the emulation (native/dpa/emulation) is always built.
find_path(SDR_FLEXIO_INCLUDE libflexio/flexio.h PATHS /opt/mellanox/flexio/include)
find_program(SDR_DPACC dpacc PATHS /opt/mellanox/doca/tools)
if(SDR_FLEXIO_INCLUDE AND SDR_DPACC)
  message(STATUS "DPA: FlexIO headers in ${SDR_FLEXIO_INCLUDE}, compiler ${SDR_DPACC}")
  file(GLOB SDR_DPA_SOURCES CONFIGURE_DEPENDS native/dpa/device/*.c)
  list(APPEND SDR_DPA_SOURCES native/engine/rx.c native/engine/rx_step.c native/engine/geometry.c
    native/dpa/hardware/runtime.c)
  list(TRANSFORM SDR_DPA_SOURCES PREPEND ${CMAKE_SOURCE_DIR}/ REGEX "^native/")
  set(SDR_DPA_ARCHIVE ${CMAKE_BINARY_DIR}/sdr_dpa_program.a)
  # FLEXIO_DEV_VER_USED 24.10: calls without a thread context, as the program makes them.
  add_custom_command(OUTPUT ${SDR_DPA_ARCHIVE}
    COMMAND ${SDR_DPACC} ${SDR_DPA_SOURCES} -o ${SDR_DPA_ARCHIVE} -mcpu=nv-dpa-bf3,nv-dpa-cx8
      -hostcc=${CMAKE_C_COMPILER} -I${CMAKE_SOURCE_DIR}/native -I${CMAKE_SOURCE_DIR}/native/include
      --devicecc-options=-O3,-ffreestanding,-std=gnu11,-DFLEXIO_DEV_VER_USED=FLEXIO_DEV_VER\(24,10,0\)
      --app-name=sdr_dpa_program
    DEPENDS ${SDR_DPA_SOURCES} native/dpa/device/program.h VERBATIM)
  add_custom_target(sdr_dpa_program DEPENDS ${SDR_DPA_ARCHIVE})
  # The host side; test/flexio compiles the same files everywhere. Not with sdr_core: that has the emulation's functions
  # under the names of dpacc's stubs.
  find_library(SDR_FLEXIO_LIBRARY flexio PATHS ${SDR_FLEXIO_INCLUDE}/../lib)
  if(SDR_FLEXIO_LIBRARY AND SDR_HAVE_VERBS)
    file(GLOB SDR_CHECK_SOURCES CONFIGURE_DEPENDS native/dpa/flexio/*.cc native/engine/*.c)
    add_executable(sdr_dpa_check EXCLUDE_FROM_ALL ${SDR_CHECK_SOURCES} native/dpa/pair.cc)
    add_dependencies(sdr_dpa_check sdr_dpa_program)
    target_include_directories(sdr_dpa_check PRIVATE native native/include ${SDR_FLEXIO_INCLUDE})
    target_link_libraries(sdr_dpa_check PRIVATE ${SDR_DPA_ARCHIVE} ${SDR_FLEXIO_LIBRARY} ibverbs mlx5 Threads::Threads)
  endif()
elseif(SDR_FLEXIO_INCLUDE)
  message(STATUS "DPA: FlexIO headers in ${SDR_FLEXIO_INCLUDE}, but no dpacc: emulation only")
endif()
