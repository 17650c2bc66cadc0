// The codec's threads may be at work when the process ends: what they use is there until the very last.
#include <unistd.h>

#include <cstdlib>

#include "codec_fixture.h"

using namespace sdr::codec;
using namespace sdr::codec::test;

namespace {

constexpr Shape kShape{Kind::mds, 20, 20};  // more rows than any kernel but the scalar one takes in a pass

// Never freed: needed after the statics are gone.
Block* before = nullptr;

void encode_again() {
  std::vector<Bytes> parity(kShape.m, Bytes(before->chunk_bytes));
  std::vector<uint8_t*> targets;
  for (Bytes& chunk : parity) targets.push_back(chunk.data());
  const Result result = Code::of(kShape)->encode(before->sources().data(), targets.data(), before->chunk_bytes);
  if (result == Result::ok && parity == before->parity) return;
  std::fprintf(stderr, "encoding after the end of main: wrong parity\n");
  _exit(1);
}

}  // namespace

TEST(codes_work_until_the_process_is_gone) {
  // Before the codec's own statics are made, so that it is called after those that are destroyed.
  CHECK_EQ(std::atexit(encode_again), 0);
  std::mt19937 random(1);
  before = new Block(kShape, 5000, false, random);
}
