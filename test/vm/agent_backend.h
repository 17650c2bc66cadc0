// The native transports that an agent can serve, behind one shape: a context with queue pairs and events.
#pragma once

#include <functional>
#include <memory>

#include "agent_wire.h"

namespace sdr::vm {

// Thrown where opening or connecting fails for a reason that JavaScript tells apart: the fields of the binding's error.
struct BackendError {
  int number = 0;
  std::string call, what, remedy, code;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual void write_capabilities(Writer& out) const = 0;
  virtual int64_t now_ns() const = 0;
  virtual EventQueue& events() = 0;
  // What follows the configuration in the frame is the transport's own.
  virtual QueuePair* create_qp(const QpConfig& config, Reader& in, sdr_status* status) = 0;
  virtual void write_info(uint32_t qp, Writer& out) = 0;
  virtual sdr_status connect(uint32_t qp, Reader& in) = 0;
  virtual void destroy_qp(uint32_t qp) = 0;
  // Why a queue pair failed, where the transport can tell.
  virtual std::string failure(uint32_t) const { return {}; }
  virtual uint64_t unknown_datagrams() const { return 0; }
};

// Reads the transport's name and options. Throws BackendError.
std::unique_ptr<Backend> open_backend(Reader& in, std::function<void()> wake);

}  // namespace sdr::vm
