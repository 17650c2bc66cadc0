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
elseif(SDR_FLEXIO_INCLUDE)
  message(STATUS "DPA: FlexIO headers in ${SDR_FLEXIO_INCLUDE}, but no dpacc: emulation only")
endif()
