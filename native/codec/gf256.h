// The field GF(2^8) of polynomial 0x11d (x^8 + x^4 + x^3 + x^2 + 1): bytes as polynomials over two elements, addition
// is exclusive or. Tables are made at the first use; all of them fit the first-level cache except the product table.
#pragma once

#include <cstdint>

namespace sdr::codec {

struct FieldTables {
  uint8_t product[256][256];
  uint8_t inverse[256];  // of 0: 0
  // Multiplication by c as two look-ups, which is what byte shuffles do: product of c with 0..15, then with 0, 16..240.
  alignas(64) uint8_t nibbles[256][32];
  // Multiplication by c as a linear map, which is what GF2P8AFFINEQB does: byte 7 - i has the bits of the argument that
  // bit i of the product is the sum of.
  alignas(64) uint64_t affine[256];
};

const FieldTables& field();

inline uint8_t multiply(uint8_t a, uint8_t b) { return field().product[a][b]; }
// Precondition: a != 0.
inline uint8_t invert(uint8_t a) { return field().inverse[a]; }

}  // namespace sdr::codec
