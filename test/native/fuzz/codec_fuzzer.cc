// libFuzzer's entry to codec_fuzz.h: -DSDR_FUZZ=ON with clang.
#include <cstdio>

// check.h brings a main of its own; libFuzzer has the one that counts here.
#define main check_main
#include "codec_fuzz.h"
#undef main

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  (void)sdr::codec::test::codec_fuzz_one(data, size);
  return 0;
}
