// codec_fuzz.h with inputs that are the same each time: random ones, and the ones that were answered `ok` changed a
// little. SDR_FUZZ_ROUNDS (default 6) times 2500 inputs, from SDR_SEED (default 1) on.
#include "codec_fuzz.h"

#include <cstdlib>

using namespace sdr::codec;
using namespace sdr::codec::test;

namespace {

constexpr uint32_t kInputsPerRound = 2500;
constexpr size_t kInputBytesMax = 400;
constexpr size_t kKeptBytesMin = 40;  // shorter ones say little
constexpr size_t kKeptMax = 64;  // inputs that were answered ok, to be changed

uint32_t setting(const char* name, uint32_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : static_cast<uint32_t>(std::strtoul(text, nullptr, 10));
}

void mutate(Bytes* input, std::mt19937& random) {
  for (uint32_t n = 1 + random() % 4; n > 0; n--) {
    if (input->empty() || random() % 8 == 0) input->push_back(static_cast<uint8_t>(random()));
    else if (random() % 8 == 0) input->pop_back();
    else (*input)[random() % input->size()] = static_cast<uint8_t>(random());
  }
}

}  // namespace

TEST(hostile_calls_are_answered_and_right_ones_give_the_right_bytes) {
  const uint32_t rounds = setting("SDR_FUZZ_ROUNDS", 6), seed = setting("SDR_SEED", 1);
  std::printf("  SDR_FUZZ_ROUNDS=%u SDR_SEED=%u\n", rounds, seed);
  uint32_t answers[4] = {}, refused = 0;
  for (uint32_t round = 0; round < rounds; round++) {
    std::mt19937 random(seed + round);
    std::vector<Bytes> kept;
    for (uint32_t n = 0; n < kInputsPerRound; n++) {
      Bytes input(random() % kInputBytesMax);
      fill(&input, random);
      if (!kept.empty() && random() % 2 == 0) {
        input = kept[random() % kept.size()];
        mutate(&input, random);
      }
      const std::optional<Result> result = codec_fuzz_one(input.data(), input.size());
      if (!result) {
        refused++;
        continue;
      }
      answers[static_cast<int>(*result)]++;
      if (*result != Result::ok || input.size() < kKeptBytesMin) continue;
      if (kept.size() < kKeptMax) kept.push_back(input);
      else kept[random() % kKeptMax] = input;
    }
  }
  std::printf("  ok %u, invalid %u, overlap %u, too few %u, shape refused %u\n", answers[0], answers[1], answers[2],
              answers[3], refused);
  // Otherwise most of what this test is about was never reached.
  for (const uint32_t count : answers) CHECK(count >= 5 * rounds);
  CHECK(refused >= 5 * rounds);
}
