#include "node/codec.h"

#include "node/region.h"
#include "node/values.h"

namespace sdr::node {

namespace {

using codec::Code;
using codec::Source;
using codec::Target;
using codec::kChunksMax;

class CodecTask final : public Task {
 public:
  explicit CodecTask(std::function<codec::Result()> work) : work_(std::move(work)) {}
  void run() override { result_ = work_(); }
  napi_value result(Napi::Env env) override { return Napi::Number::New(env, static_cast<int>(result_)); }

 private:
  std::function<codec::Result()> work_;
  codec::Result result_ = codec::Result::invalid;
};

[[noreturn]] void out_of_range(Napi::Env env, const std::string& what) { throw Napi::RangeError::New(env, what); }

std::string element(const char* name, size_t i) { return std::string(name) + "[" + std::to_string(i) + "]"; }

// The memory of chunks that JavaScript gave, and the buffers that hold it.
class Chunks {
 public:
  explicit Chunks(Napi::Env env) : env_(env), buffers_(Napi::Array::New(env)) {}

  Memory one(const Napi::Value& value, const std::string& name) {
    const Memory memory = to_memory(value, name);
    buffers_.Set(buffers_.Length(), memory.buffer);
    return memory;
  }
  // Exactly `count` elements; those that are null become no memory where that is allowed.
  std::vector<Memory> list(const Napi::Value& value, const char* name, uint32_t count, bool may_lack) {
    const auto array = to_array(value, name, kChunksMax);
    if (array.Length() != count)
      out_of_range(env_, std::string(name) + " has " + std::to_string(array.Length()) + " elements, the code " +
                             std::to_string(count));
    std::vector<Memory> chunks(count);
    for (uint32_t i = 0; i < count; i++) {
      const Napi::Value chunk = array.Get(i);
      if (!chunk.IsNull() || !may_lack) chunks[i] = one(chunk, element(name, i));
    }
    return chunks;
  }
  // `m` parity chunks to write, of equal length, which is that of a chunk.
  std::vector<uint8_t*> parity(const Napi::Value& value, uint32_t m, uint64_t* chunk_bytes) {
    const std::vector<Memory> chunks = list(value, "parity", m, false);
    *chunk_bytes = chunks[0].bytes;
    if (*chunk_bytes == 0) out_of_range(env_, "parity[0] is empty");
    std::vector<uint8_t*> targets;
    for (size_t i = 0; i < chunks.size(); i++) {
      exactly(chunks[i], *chunk_bytes, element("parity", i));
      targets.push_back(chunks[i].data);
    }
    return targets;
  }
  void exactly(const Memory& chunk, uint64_t bytes, const std::string& name) const {
    if (chunk.bytes != bytes)
      out_of_range(env_, name + " has " + std::to_string(chunk.bytes) + " bytes, not " + std::to_string(bytes));
  }
  void at_most(const Memory& chunk, uint64_t bytes, const std::string& name) const {
    if (chunk.bytes > bytes)
      out_of_range(env_, name + " has " + std::to_string(chunk.bytes) + " bytes, more than a chunk's " +
                             std::to_string(bytes));
  }

  Napi::Value submit(std::function<codec::Result()> work) {
    auto task = std::make_unique<CodecTask>(std::move(work));
    task->pinned = Napi::Persistent(buffers_.As<Napi::Object>());
    return Environment::of(env_).tasks.submit(env_, std::move(task));
  }

 private:
  Napi::Env env_;
  Napi::Array buffers_;
};

// k + m flags, as they are now.
std::vector<uint8_t> to_flags(const Napi::Value& value, const codec::Shape& shape) {
  const auto bytes = to_bytes(value, "present");
  if (bytes.ElementLength() != shape.k + shape.m)
    out_of_range(value.Env(), "present has " + std::to_string(bytes.ElementLength()) + " flags, the code " +
                                  std::to_string(shape.k + shape.m) + " chunks");
  std::vector<uint8_t> flags;
  for (size_t i = 0; i < bytes.ElementLength(); i++) flags.push_back(bytes[i] != 0);
  return flags;
}

// The bytes of [offset, offset + bytes) of a region that has memory.
uint8_t* within(Napi::Env env, const RegionRef& region, uint64_t offset, uint64_t bytes, const char* name) {
  if (!region || region->base == nullptr) throw Napi::TypeError::New(env, std::string(name) + " has no memory");
  if (offset > region->bytes || bytes > region->bytes - offset)
    out_of_range(env, std::string(name) + " has " + std::to_string(region->bytes) + " bytes, not " +
                          std::to_string(bytes) + " from " + std::to_string(offset));
  return region->base + offset;
}

}  // namespace

Napi::Function CodeWrap::define(Napi::Env env) {
  return DefineClass(
      env, "NativeCode",
      {InstanceMethod("encode", &CodeWrap::encode), InstanceMethod("update", &CodeWrap::update),
       InstanceMethod("isRecoverable", &CodeWrap::is_recoverable), InstanceMethod("decode", &CodeWrap::decode),
       InstanceMethod("encodeBlock", &CodeWrap::encode_block)});
}

CodeWrap::CodeWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CodeWrap>(info) {
  const uint32_t kind = whole32(info[0], "kind");
  const uint32_t k = whole32(info[1], "k");
  const uint32_t m = whole32(info[2], "m");
  if (kind <= static_cast<uint32_t>(codec::Kind::xor_groups)) code_ = Code::of({static_cast<codec::Kind>(kind), k, m});
  if (!code_)
    out_of_range(info.Env(), "there is no code of kind " + std::to_string(kind) + " with k " + std::to_string(k) +
                                 " and m " + std::to_string(m));
}

std::shared_ptr<const Code> CodeWrap::unwrap(const Napi::Value& value) {
  const Napi::Env env = value.Env();
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(Environment::of(env).code.Value()))
    throw Napi::TypeError::New(env, "not a code");
  return Unwrap(value.As<Napi::Object>())->code_;
}

Napi::Value CodeWrap::describe(const Napi::CallbackInfo& info) {
  auto object = Napi::Object::New(info.Env());
  object.Set("kernel", codec::kernel_name());
  object.Set("threads", codec::Pool::shared()->threads());
  return object;
}

Napi::Value CodeWrap::encode(const Napi::CallbackInfo& info) {
  const auto [kind, k, m] = code_->shape();
  Chunks chunks(info.Env());
  uint64_t chunk_bytes = 0;
  std::vector<uint8_t*> parity = chunks.parity(info[1], m, &chunk_bytes);
  std::vector<Source> data;
  for (const Memory& chunk : chunks.list(info[0], "data", k, true)) {
    chunks.at_most(chunk, chunk_bytes, element("data", data.size()));
    data.push_back({chunk.data, chunk.bytes});
  }
  return chunks.submit([code = code_, data = std::move(data), parity = std::move(parity), chunk_bytes] {
    return code->encode(data.data(), parity.data(), chunk_bytes);
  });
}

Napi::Value CodeWrap::update(const Napi::CallbackInfo& info) {
  const auto [kind, k, m] = code_->shape();
  const uint32_t index = whole32(info[0], "index");
  if (index >= k) out_of_range(info.Env(), "index " + std::to_string(index) + " is not below k " + std::to_string(k));
  Chunks chunks(info.Env());
  uint64_t chunk_bytes = 0;
  std::vector<uint8_t*> parity = chunks.parity(info[2], m, &chunk_bytes);
  const Memory chunk = chunks.one(info[1], "chunk");
  chunks.at_most(chunk, chunk_bytes, "chunk");
  const Source data{chunk.data, chunk.bytes};
  return chunks.submit([code = code_, index, data, parity = std::move(parity), chunk_bytes] {
    return code->update(index, data, parity.data(), chunk_bytes);
  });
}

Napi::Value CodeWrap::is_recoverable(const Napi::CallbackInfo& info) {
  const std::vector<uint8_t> present = to_flags(info[0], code_->shape());
  return Napi::Boolean::New(info.Env(), code_->is_recoverable(present.data()));
}

Napi::Value CodeWrap::decode(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto [kind, k, m] = code_->shape();
  Chunks chunks(env);
  std::vector<uint8_t> present = to_flags(info[2], code_->shape());
  const uint64_t chunk_bytes = whole(info[3], "chunkBytes");
  std::vector<Target> data;
  for (const Memory& chunk : chunks.list(info[0], "data", k, true)) {
    const size_t i = data.size();
    chunks.at_most(chunk, chunk_bytes, element("data", i));
    if (present[i] == 0 && chunk.buffer.IsEmpty()) out_of_range(env, element("data", i) + " has no memory to go to");
    data.push_back({chunk.data, chunk.bytes});
  }
  std::vector<const uint8_t*> parity;
  for (const Memory& chunk : chunks.list(info[1], "parity", m, true)) {
    const size_t i = parity.size();
    if (!chunk.buffer.IsEmpty()) chunks.exactly(chunk, chunk_bytes, element("parity", i));
    else if (present[k + i] != 0) out_of_range(env, element("parity", i) + " is present and null");
    parity.push_back(chunk.data);
  }
  return chunks.submit([code = code_, data = std::move(data), parity = std::move(parity), present = std::move(present),
                        chunk_bytes] {
    uint32_t parity_used = 0;
    return code->decode(data.data(), parity.data(), present.data(), chunk_bytes, &parity_used);
  });
}

Napi::Value CodeWrap::encode_block(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto [kind, k, m] = code_->shape();
  const uint64_t bytes = whole(info[2], "bytes");
  const uint64_t chunk_bytes = whole(info[3], "chunkBytes");
  const uint32_t stride = optional32(info[6], "stride", 1);
  const uint32_t row_first = optional32(info[7], "rowFirst", 0);
  const uint32_t row_count = optional32(info[8], "rowCount", m);
  // Chunks of the block, of those from its first to its last.
  const auto count_of = [&](uint64_t chunks) { return chunks / stride + (chunks % stride != 0); };
  const bool is_measured = chunk_bytes != 0 && stride != 0;
  const uint64_t count = is_measured ? count_of(bytes / chunk_bytes + (bytes % chunk_bytes != 0)) : 0;
  if (!is_measured || count > k)
    out_of_range(env, std::to_string(bytes) + " bytes are not " + std::to_string(k) + " chunks of " +
                          std::to_string(chunk_bytes) + ", " + std::to_string(stride) + " apart");
  if (row_first > m || row_count > m - row_first)
    out_of_range(env, "rows " + std::to_string(row_first) + " and " + std::to_string(row_count) +
                          " more are not of " + std::to_string(m));
  const RegionRef source = RegionWrap::unwrap(info[0]);
  const RegionRef target = RegionWrap::unwrap(info[4]);
  const uint8_t* from = within(env, source, whole(info[1], "offset"), bytes, "source");
  uint8_t* to = within(env, target, whole(info[5], "parityOffset"), m * chunk_bytes, "parity");
  std::vector<Source> data(k);
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t at = i * stride * chunk_bytes;
    data[i] = {from + at, std::min(chunk_bytes, bytes - at)};
  }
  std::vector<uint8_t*> parity(m);  // those not wanted stay null
  for (uint32_t i = row_first; i < row_first + row_count; i++) parity[i] = to + i * chunk_bytes;
  // The regions' own references keep their memory.
  return Environment::of(env).tasks.submit(
      env, std::make_unique<CodecTask>([code = code_, data = std::move(data), parity = std::move(parity), chunk_bytes,
                                        source, target] {
        return code->encode(data.data(), parity.data(), chunk_bytes);
      }));
}

}  // namespace sdr::node
