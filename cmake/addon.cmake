# The Node.js addon. Under cmake-js the CMAKE_JS_* variables are set; under plain cmake ask node for the headers.
if(NOT DEFINED CMAKE_JS_INC)
  execute_process(
    COMMAND node -p "require('node-api-headers').include_dir"
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} OUTPUT_VARIABLE node_api_include
    OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  execute_process(
    COMMAND node -p "require('node-addon-api').include_dir"
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} OUTPUT_VARIABLE node_addon_api_include
    OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  set(CMAKE_JS_INC ${node_api_include} ${CMAKE_SOURCE_DIR}/${node_addon_api_include})
endif()

file(GLOB SDR_NODE_SOURCES CONFIGURE_DEPENDS native/node/*.cc)
add_library(sdr_rdma MODULE ${SDR_NODE_SOURCES} ${CMAKE_JS_SRC})
set_target_properties(sdr_rdma PROPERTIES PREFIX "" SUFFIX ".node")
target_include_directories(sdr_rdma SYSTEM PRIVATE ${CMAKE_JS_INC})
target_include_directories(sdr_rdma PRIVATE native)
# Unthrowable: in a worker that is being terminated nothing can be thrown into JavaScript any more; without the last
# definition that ends the whole process.
target_compile_definitions(sdr_rdma PRIVATE
  NAPI_VERSION=9 NODE_ADDON_API_CPP_EXCEPTIONS NODE_ADDON_API_CPP_EXCEPTIONS_ALL
  NODE_ADDON_API_REQUIRE_BASIC_FINALIZERS NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS)
target_link_libraries(sdr_rdma PRIVATE sdr_core ${CMAKE_JS_LIB})
if(APPLE)
  target_link_options(sdr_rdma PRIVATE -undefined dynamic_lookup)
endif()
