// The C library's readers of what comes from outside: control frames (against the golden vectors
// that the TypeScript codec is tested with), infos, and the text of links.
#include <fstream>
#include <random>
#include <sstream>

#include "check.h"
#include "lib/error.h"
#include "lib/frames.h"
#include "lib/json.h"
#include "lib/link_text.h"
#include "lib/path.h"

using namespace sdr::lib;

namespace {

// Read once: the vectors' texts have no escapes that read_json lacks.
const Json& vectors() {
  static const Json all = [] {
    std::ifstream file(SDR_SOURCE_DIR "/test/vectors/frames.json");
    std::stringstream text;
    text << file.rdbuf();
    const std::string all_text = text.str();
    auto read = read_json(all_text.data(), all_text.size(), nullptr);
    CHECK(read.has_value());
    return *read;
  }();
  return all;
}

std::vector<uint8_t> from_hex(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

uint64_t number(const Json& object, const char* name) {
  const Json* field = object.find(name);
  CHECK(field != nullptr);
  return static_cast<uint64_t>(field->number);
}

// The fields that this library acts on.
void check_fields(const Frame& frame, const Json& expected) {
  const std::string& kind = expected.find("kind")->string;
  if (kind != "ping" && kind != "pong")
    CHECK_EQ(frame.message, static_cast<uint32_t>(number(expected, "message")));
  if (kind == "cts") CHECK_EQ(frame.value, number(expected, "maxBytes"));
  if (kind == "cts" || kind == "start") CHECK_EQ(frame.policy, expected.find("policy")->string);
  if (kind == "start") {
    CHECK_EQ(frame.value, number(expected, "bytes"));
    const Json& immediate = *expected.find("immediate");
    CHECK_EQ(frame.has_immediate, immediate.kind == Json::Kind::number);
    if (frame.has_immediate) CHECK_EQ(frame.immediate, static_cast<uint32_t>(immediate.number));
  }
  if (kind == "ping" || kind == "pong") {
    CHECK_EQ(frame.value, number(expected, "timeNs"));
    CHECK_EQ(frame.padding, static_cast<uint32_t>(number(expected, "padding")));
  }
  if (kind == "close") {
    constexpr const char* scopes[] = {"connection", "send", "receive"};
    CHECK_EQ(std::string(scopes[static_cast<int>(frame.scope)]), expected.find("scope")->string);
    CHECK_EQ(frame.reason, static_cast<uint16_t>(number(expected, "reason")));
  }
  if (kind == "policy") {
    CHECK_EQ(frame.kind, static_cast<uint8_t>(number(expected, "type")));
    CHECK_EQ(frame.body.size(), expected.find("payload")->items.size());
  }
}

Code link_error(const std::string& text) {
  try {
    parse_link(text);
  } catch (const Failure& failure) {
    return failure.error().code;
  }
  return SDR_EXT_NONE;
}

}  // namespace

TEST(each_golden_frame_is_decoded_and_encodes_to_the_same_bytes) {
  const auto& valid = vectors().find("valid")->items;
  CHECK(valid.size() >= 20);
  for (const Json& one : valid) {
    const std::vector<uint8_t> bytes = from_hex(one.find("hex")->string);
    bool malformed = true;
    const auto frames = decode_frames(bytes.data(), bytes.size(), &malformed);
    if (malformed || frames.size() != 1)
      check::fail(__FILE__, __LINE__, "refused: " + one.find("title")->string);
    CHECK_EQ(frames[0].sequence, static_cast<uint32_t>(number(one, "sequence")));
    check_fields(frames[0], *one.find("frame"));
    std::vector<uint8_t> again(bytes.size());
    CHECK_EQ(encode_frame(frames[0], again.data(), again.size()), bytes.size());
    CHECK(again == bytes);
    CHECK_EQ(encode_frame(frames[0], again.data(), again.size() - 1), size_t{0});
  }
}

TEST(each_malformed_golden_frame_is_refused_with_what_was_valid_before_it) {
  const auto& invalid = vectors().find("invalid")->items;
  CHECK(invalid.size() >= 30);
  for (const Json& one : invalid) {
    const std::vector<uint8_t> bytes = from_hex(one.find("hex")->string);
    bool malformed = false;
    const auto frames = decode_frames(bytes.data(), bytes.size(), &malformed);
    if (!malformed) check::fail(__FILE__, __LINE__, "taken: " + one.find("title")->string);
    CHECK_EQ(frames.size(), static_cast<size_t>(number(one, "frames")));
  }
}

TEST(a_cts_carries_up_to_64_bytes_of_grant_in_whole_words) {
  for (const size_t size : {0, 4, 8, 63, 64, 68}) {
    Frame frame;
    frame.kind = static_cast<uint8_t>(FrameKind::cts);
    frame.value = 4096;
    frame.policy = "sr";
    frame.body.assign(size, 0x5a);
    uint8_t bytes[256];
    const size_t length = encode_frame(frame, bytes, sizeof bytes);
    bool malformed = false;
    const auto frames = decode_frames(bytes, length, &malformed);
    CHECK_EQ(malformed, size == 63 || size == 68);
    if (!malformed) CHECK(frames.at(0).body == frame.body);
  }
}

TEST(random_bytes_never_decode_into_frames_that_encode_otherwise) {
  std::mt19937 random(7);
  for (int round = 0; round < 200'000; round++) {
    uint8_t bytes[64];
    const size_t size = random() % sizeof bytes;
    for (size_t i = 0; i < size; i++)
      bytes[i] = static_cast<uint8_t>(random() % 3 == 0 ? random() : 0);
    if (size >= 4)
      bytes[0] = 1, bytes[1] = static_cast<uint8_t>(1 + random() % 10), bytes[2] = 0,
      bytes[3] = static_cast<uint8_t>(size);
    bool malformed = false;
    for (const Frame& frame : decode_frames(bytes, size, &malformed)) {
      uint8_t again[64];
      CHECK_EQ(encode_frame(frame, again, sizeof again), size);
      CHECK(std::memcmp(again, bytes, size) == 0);
    }
  }
}

TEST(json_ends_where_its_value_ends_and_bounds_its_depth) {
  size_t end = 0;
  const std::string text = R"( {"a":[1,-2.5e1,true,null],"b":{"c":"x\"y"}} garbage)";
  const auto read = read_json(text.data(), text.size(), &end);
  CHECK(read.has_value());
  CHECK_EQ(text.substr(end), std::string(" garbage"));
  CHECK_EQ(read->find("a")->items.at(1).number, -25.0);
  CHECK_EQ(read->find("b")->find("c")->string, std::string("x\"y"));
  CHECK(read->find("d") == nullptr);
  CHECK(!read->find("a")->items[1].whole(0, 100).has_value());
  CHECK(read_json(R"({"a":1})"
                  "\0rubbish",
                  20, nullptr)
            .has_value());
  for (const std::string bad : {"", "{", "[1", "{\"a\"}", "{\"a\":}", "\"x", "tru", "{\"a\":1,}",
                                "[1 2]", "-", "\"\\u0041\""})
    CHECK(!read_json(bad.data(), bad.size(), nullptr).has_value());
  const std::string deep(1000, '[');
  CHECK(!read_json(deep.data(), deep.size(), nullptr).has_value());
}

TEST(link_texts_mean_what_tc_netem_says) {
  const sdr::LinkConfig link = parse_link(
      "rate 10gbit 24 delay 5ms 1ms 25% distribution normal loss 0.1% 5% duplicate 1e-3 corrupt "
      "0.5% reorder 2% 50% gap 4 "
      "limit 1000 drop ack 1-3 drop start 2");
  CHECK_EQ(link.rate_bps, 1e10);
  CHECK_EQ(link.packet_overhead_bytes, 24);
  CHECK_EQ(link.delay_ns, int64_t{5'000'000});
  CHECK_EQ(link.jitter_ns, int64_t{1'000'000});
  CHECK_EQ(link.delay_correlation, 0.25);
  CHECK(link.distribution == sdr::Distribution::normal);
  CHECK(link.loss == sdr::LossModel::bernoulli);
  CHECK_EQ(link.loss_probability, 0.001);
  CHECK_EQ(link.loss_correlation, 0.05);
  CHECK_EQ(link.duplicate_probability, 0.001);
  CHECK_EQ(link.corrupt_probability, 0.005);
  CHECK_EQ(link.reorder_probability, 0.02);
  CHECK_EQ(link.reorder_correlation, 0.5);
  CHECK_EQ(link.reorder_gap, 4u);
  CHECK_EQ(link.limit_packets, 1000u);
  CHECK_EQ(link.drops.size(), size_t{2});
  CHECK(link.drops[0].kind == sdr::PacketKind::ack && link.drops[0].first == 1 &&
        link.drops[0].last == 3);
  CHECK(link.drops[1].kind == sdr::PacketKind::start && link.drops[1].first == 2 &&
        link.drops[1].last == 2);

  const sdr::LinkConfig bursts = parse_link("LOSS gemodel 1% 10% 70% 0.1%");
  CHECK(bursts.loss == sdr::LossModel::gilbert_elliott);
  CHECK_EQ(bursts.ge_p, 0.01);
  CHECK_EQ(bursts.ge_r, 0.1);
  CHECK_EQ(bursts.ge_loss_bad, 0.7);
  CHECK_EQ(bursts.ge_loss_good, 0.001);
  CHECK_EQ(parse_link("loss gemodel 1%").ge_r, 0.99);
  CHECK(parse_link("none").is_clear());
  CHECK_EQ(parse_link("rate 1gbps").rate_bps, 8e9);
  CHECK_EQ(parse_link("delay 0").delay_ns, int64_t{0});
}

TEST(link_texts_that_could_be_misread_are_refused) {
  for (const char* bad : {"",
                          "fast",
                          "rate",
                          "rate x",
                          "rate 10gbits",
                          "delay 5",
                          "delay 5ms 1ms 1% oddly",
                          "loss 5",
                          "loss 1",
                          "loss 101%",
                          "loss -1%",
                          "loss nan",
                          "loss inf",
                          "delay 1ms distribution bell",
                          "drop all 1",
                          "drop ack 3-1",
                          "drop ack x",
                          "drop ack 1-",
                          "loss 1% loss 2%",
                          "reorder 1%",
                          "none loss 1%",
                          "delay 1e30s",
                          "loss gemodel 0 0",
                          "limit 1e12"})
    if (link_error(bad) != SDR_EXT_INVALID_ARGUMENT)
      check::fail(__FILE__, __LINE__, std::string("taken: ") + bad);
}

TEST(each_sequence_number_is_accepted_once_and_only_while_recent) {
  ReplayWindow window;
  CHECK(window.accept(0xfffffffe));
  CHECK(window.accept(1));
  CHECK(window.accept(0xffffffff));
  CHECK(!window.accept(0xffffffff));
  CHECK(!window.accept(1));
  CHECK(window.accept(200));
  CHECK(!window.accept(136));
  CHECK(window.accept(137));
  CHECK(!window.accept(137));
}

TEST(error_names_and_numbers_belong_together) {
  CHECK_EQ(std::string(code_name(SDR_EXT_PEER_UNREACHABLE)), std::string("PEER_UNREACHABLE"));
  CHECK_EQ(std::string(code_name(SDR_EXT_DEADLOCK)), std::string("DEADLOCK"));
  CHECK_EQ(std::string(code_name(static_cast<Code>(77))), std::string("UNKNOWN"));
  CHECK(code_of(9) == SDR_EXT_PEER_CLOSED);
  CHECK(code_of(0) == SDR_EXT_ABORTED);
  CHECK(code_of(999) == SDR_EXT_ABORTED);
}
