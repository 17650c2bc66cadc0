// RDMA devices, where this library was built with verbs.
#include "lib/domain.h"
#include "lib/error.h"

namespace sdr::lib {

std::shared_ptr<Domain> open_verbs(const DeviceOptions& options) {
  fail(SDR_EXT_ENVIRONMENT, "device \"" + options.name + "\": this library was built without verbs",
       "set SDR_DEVICE=udp:ADDRESS, or build it where infiniband/verbs.h is");
}

}  // namespace sdr::lib
