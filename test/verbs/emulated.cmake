# The emulated RDMA device as two shared libraries, where rdma-core's headers are; README.md beside this says what for.
include(CheckIncludeFileCXX)
check_include_file_cxx(infiniband/verbs.h SDR_HAS_VERBS_H)
check_include_file_cxx(infiniband/mlx5dv.h SDR_HAS_MLX5DV_H)
if(SDR_HAS_VERBS_H AND SDR_HAS_MLX5DV_H)
  file(GLOB emulated_sources CONFIGURE_DEPENDS test/verbs/*.cc)
  list(FILTER emulated_sources EXCLUDE REGEX "/mlx5\\.cc$")
  add_library(ibverbs-emulated SHARED ${emulated_sources})
  add_library(mlx5-emulated SHARED test/verbs/mlx5.cc)
  target_link_libraries(ibverbs-emulated PRIVATE Threads::Threads)
  target_link_libraries(mlx5-emulated PRIVATE ibverbs-emulated)
  set_target_properties(ibverbs-emulated mlx5-emulated PROPERTIES
    C_VISIBILITY_PRESET default CXX_VISIBILITY_PRESET default BUILD_RPATH "$ORIGIN")
endif()

# Tells a test program where the libraries are.
function(use_emulated_verbs target)
  add_dependencies(${target} mlx5-emulated)
  target_compile_definitions(${target} PRIVATE
    SDR_HAVE_VERBS=1
    SDR_EMULATED_IBVERBS="$<TARGET_FILE:ibverbs-emulated>" SDR_EMULATED_MLX5="$<TARGET_FILE:mlx5-emulated>")
endfunction()
