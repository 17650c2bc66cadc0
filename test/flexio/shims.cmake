# The host side for a DPA card against stand-ins of FlexIO's headers: compiled as it is, and run over shims onto the
# emulated device. README.md beside this says what that shows.
if(TARGET ibverbs-emulated)  # rdma-core's headers are there
  file(GLOB flexio_sources CONFIGURE_DEPENDS native/dpa/flexio/*.cc)
  list(FILTER flexio_sources EXCLUDE REGEX "/check\\.cc$")
  add_library(flexio_standin OBJECT ${flexio_sources})
  target_include_directories(flexio_standin PRIVATE native native/include test/flexio/include)
  add_executable(flexio_test test/flexio/flexio_test.cc test/flexio/shims.cc $<TARGET_OBJECTS:flexio_standin>)
  target_include_directories(flexio_test PRIVATE native native/dpa/emulation/include test test/native test/flexio/include)
  target_link_libraries(flexio_test PRIVATE sdr_core)
  add_test(NAME flexio_test COMMAND flexio_test)
  add_executable(flexio_check native/dpa/flexio/check.cc test/flexio/shims.cc $<TARGET_OBJECTS:flexio_standin>)
  target_include_directories(flexio_check PRIVATE native native/dpa/emulation/include test test/flexio/include)
  target_link_libraries(flexio_check PRIVATE sdr_core)
  add_test(NAME flexio_check COMMAND flexio_check mlx5_0)
  set_tests_properties(flexio_test flexio_check PROPERTIES TIMEOUT 240)
endif()
