#include "codec/gf256.h"

namespace sdr::codec {
namespace {

constexpr uint32_t kPolynomial = 0x11d;

uint8_t times_x(uint8_t a) { return static_cast<uint8_t>((a << 1) ^ ((a & 0x80) != 0 ? kPolynomial : 0)); }

void fill_products(FieldTables* tables, uint32_t c) {
  uint8_t power[8];  // c * x^bit
  power[0] = static_cast<uint8_t>(c);
  for (int bit = 1; bit < 8; bit++) power[bit] = times_x(power[bit - 1]);
  for (uint32_t a = 0; a < 256; a++) {
    uint8_t sum = 0;
    for (int bit = 0; bit < 8; bit++) sum ^= (a >> bit & 1) != 0 ? power[bit] : 0;
    tables->product[c][a] = sum;
    if (sum == 1) tables->inverse[c] = static_cast<uint8_t>(a);
  }
  for (uint32_t i = 0; i < 16; i++) {
    tables->nibbles[c][i] = tables->product[c][i];
    tables->nibbles[c][16 + i] = tables->product[c][i << 4];
  }
  for (int bit = 0; bit < 8; bit++) {
    uint64_t row = 0;
    for (int from = 0; from < 8; from++) row |= static_cast<uint64_t>(power[from] >> bit & 1) << from;
    tables->affine[c] |= row << (8 * (7 - bit));
  }
}

const FieldTables* make_tables() {
  auto* tables = new FieldTables();  // zeros
  for (uint32_t c = 0; c < 256; c++) fill_products(tables, c);
  return tables;
}

}  // namespace

const FieldTables& field() {
  // Never destroyed: threads may still be at work when the process ends.
  static const FieldTables* const tables = make_tables();
  return *tables;
}

}  // namespace sdr::codec
