// The Node.js binding: translation only. Entry points are typed in src/transport/native.ts.
#include <napi.h>

#include "node/codec.h"
#include "node/dpa_context.h"
#include "node/environment.h"
#include "node/queue_pair.h"
#include "node/region.h"
#include "node/udp_context.h"
#include "node/verbs_context.h"
#include "node/world.h"

namespace sdr::node {

void ReleaseQueue::push(Napi::ObjectReference&& reference) {
  const std::lock_guard lock(mutex_);
  if (abandoned_) reference.SuppressDestruct();
  waiting_.push_back(std::move(reference));
}

void ReleaseQueue::drain() {
  std::vector<Napi::ObjectReference> gone;
  const std::lock_guard lock(mutex_);
  gone.swap(waiting_);
}

void ReleaseQueue::abandon() {
  const std::lock_guard lock(mutex_);
  abandoned_ = true;
  for (auto& reference : waiting_) reference.SuppressDestruct();
}

namespace {

// Threads end before the environment does: a native thread that writes into a freed buffer would abort the process.
void clean_up(Environment* environment) {
  environment->tasks.stop();
  while (!environment->open_contexts.empty()) (*environment->open_contexts.begin())->shut();
  environment->releases->drain();
  environment->releases->abandon();
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* environment = new Environment;
  env.SetInstanceData(environment);
  env.AddCleanupHook(clean_up, environment);
  environment->region = Napi::Persistent(RegionWrap::define(env));
  environment->queue_pair = Napi::Persistent(QueuePairWrap::define(env));
  environment->world = Napi::Persistent(WorldWrap::define(env));
  environment->udp_context = Napi::Persistent(UdpContextWrap::define(env));
  environment->verbs_context = Napi::Persistent(VerbsContextWrap::define(env));
  environment->dpa_context = Napi::Persistent(DpaContextWrap::define(env));
  environment->code = Napi::Persistent(CodeWrap::define(env));

  exports.Set("createCode", Napi::Function::New(env, [](const Napi::CallbackInfo& info) -> Napi::Value {
                return Environment::of(info.Env()).code.New({info[0], info[1], info[2]});
              }));
  exports.Set("codec", Napi::Function::New(env, CodeWrap::describe));
  exports.Set("createRegion", Napi::Function::New(env, RegionWrap::create));
  exports.Set("allocateRegion", Napi::Function::New(env, RegionWrap::allocate));
  exports.Set("scratchRegion", Napi::Function::New(env, RegionWrap::scratch));
  exports.Set("phantomRegion", Napi::Function::New(env, RegionWrap::phantom));
  exports.Set("dmabufRegion", Napi::Function::New(env, RegionWrap::dmabuf));
  exports.Set("createWorld", Napi::Function::New(env, [](const Napi::CallbackInfo& info) -> Napi::Value {
                return Environment::of(info.Env()).world.New({info[0], info[1]});
              }));
  exports.Set("createUdpContext", Napi::Function::New(env, [](const Napi::CallbackInfo& info) -> Napi::Value {
                return Environment::of(info.Env()).udp_context.New({info[0], info[1]});
              }));
  exports.Set("createVerbsContext", Napi::Function::New(env, [](const Napi::CallbackInfo& info) -> Napi::Value {
                return Environment::of(info.Env()).verbs_context.New({info[0], info[1]});
              }));
  exports.Set("hasVerbs", Napi::Boolean::New(env, VerbsContext::is_compiled()));
  exports.Set("createDpaContext", Napi::Function::New(env, [](const Napi::CallbackInfo& info) -> Napi::Value {
                return Environment::of(info.Env()).dpa_context.New({info[0], info[1]});
              }));
  exports.Set("hasFlexio", Napi::Boolean::New(env, DpaContext::runs_on_card()));
  return exports;
}

}  // namespace

NODE_API_MODULE(sdr_rdma, init)

}  // namespace sdr::node
