#include "transport/checks.h"

namespace sdr {

sdr_status check_config(const QpConfig& config) {
  const sdr_status geometry = sdr_geometry_check(&config.geometry);
  if (geometry != SDR_OK) return geometry;
  if (config.work_requests_max < 1 || config.work_requests_max > kWorkRequestsMax)
    return SDR_INVALID;
  const bool paced = config.rate_bps >= kLinkRateMinBps && config.rate_bps <= kLinkRateMaxBps;
  return paced || config.rate_bps == 0 ? SDR_OK : SDR_INVALID;
}

bool is_sendable(const sdr_geometry& geometry, uint64_t message_bytes, uint32_t first_chunk,
                 uint64_t bytes) {
  const uint64_t chunk_bytes = uint64_t{geometry.packet_bytes} * geometry.packets_per_chunk;
  const uint64_t begin = first_chunk * chunk_bytes;  // below 2^32 * 65000 * 65536: does not wrap
  if (bytes == 0 || begin >= message_bytes || bytes > message_bytes - begin) return false;
  return bytes % chunk_bytes == 0 || begin + bytes == message_bytes;
}

}  // namespace sdr
