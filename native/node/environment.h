// What the addon keeps for each JavaScript environment (main thread or worker): constructors, open contexts and
// tasks to end when it ends, and references that native threads let go of and only its thread may delete.
#pragma once

#include <napi.h>

#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "node/tasks.h"

namespace sdr::node {

// References released from any thread, deleted on the environment's own.
class ReleaseQueue {
 public:
  void push(Napi::ObjectReference&& reference);
  void drain();
  // The environment is going away: it deletes its references itself.
  void abandon();

 private:
  std::mutex mutex_;
  std::vector<Napi::ObjectReference> waiting_;
  bool abandoned_ = false;
};

// A context that has threads: they end before the environment does.
class OpenContext {
 public:
  virtual void shut() = 0;

 protected:
  ~OpenContext() = default;
};

struct Environment {
  Napi::FunctionReference region, queue_pair, world, udp_context, verbs_context, dpa_context, code;
  std::shared_ptr<ReleaseQueue> releases = std::make_shared<ReleaseQueue>();
  std::set<OpenContext*> open_contexts;
  Tasks tasks;

  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }
};

}  // namespace sdr::node
