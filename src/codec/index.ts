/** Erasure codes on ArrayBuffers: usable alone, without any of the transports. */
export {
  type CodecInfo,
  codecInfo,
  type DecodeRequest,
  ErasureCode,
  type ErasureCodeOptions,
} from "./erasure-code.ts";
