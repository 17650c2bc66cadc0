#include "transport/checks.h"

#include <functional>

namespace sdr {

sdr_status check_config(const QpConfig& config) {
  const sdr_status geometry = sdr_geometry_check(&config.geometry);
  if (geometry != SDR_OK) return geometry;
  if (config.work_requests_max < 1 || config.work_requests_max > kWorkRequestsMax)
    return SDR_INVALID;
  const bool paced = config.rate_bps >= kLinkRateMinBps && config.rate_bps <= kLinkRateMaxBps;
  return paced || config.rate_bps == 0 ? SDR_OK : SDR_INVALID;
}

bool is_receivable(const sdr_geometry& geometry, const Region* region, uint64_t offset,
                   uint64_t bytes, const Parity& parity) {
  if (region != nullptr && !region_holds(*region, offset, bytes)) return false;
  if (parity.chunks == 0) return true;
  const uint64_t parity_bytes = parity.chunks * chunk_bytes(geometry);  // below 2^32 * 65000 * 65536
  if (parity.region && !region_holds(*parity.region, parity.offset, parity_bytes)) return false;
  const uint8_t* own = memory_at(region, offset);
  const uint8_t* beside = memory_at(parity.region.get(), parity.offset);
  if (own == nullptr) return true;
  if (beside == nullptr) return false;
  const std::less_equal<const uint8_t*> ends_before;  // of pointers into different arrays too
  return ends_before(own + bytes, beside) || ends_before(beside + parity_bytes, own);
}

bool is_sendable(const sdr_geometry& geometry, uint64_t message_bytes, uint32_t first_chunk,
                 uint64_t bytes) {
  const uint64_t chunk = chunk_bytes(geometry);
  const uint64_t begin = first_chunk * chunk;  // below 2^32 * 65000 * 65536: does not wrap
  if (bytes == 0) return false;
  if (is_parity(geometry, message_bytes, first_chunk)) {
    const uint64_t numbered = geometry.packet_bytes * (uint64_t{1} << geometry.split.packet_bits);
    return bytes % chunk == 0 && begin <= numbered && bytes <= numbered - begin;
  }
  if (bytes > message_bytes - begin) return false;
  return bytes % chunk == 0 || begin + bytes == message_bytes;
}

}  // namespace sdr
