/* The emulation's stand-in for FlexIO's header of this name: byte orders, on a little-endian host. */
#ifndef SDR_EMULATED_FLEXIO_DEV_ENDIANITY_H
#define SDR_EMULATED_FLEXIO_DEV_ENDIANITY_H

#define cpu_to_be16(value) __builtin_bswap16(value)
#define cpu_to_be32(value) __builtin_bswap32(value)
#define cpu_to_be64(value) __builtin_bswap64(value)
#define be16_to_cpu(value) __builtin_bswap16(value)
#define be32_to_cpu(value) __builtin_bswap32(value)
#define be64_to_cpu(value) __builtin_bswap64(value)

#endif
