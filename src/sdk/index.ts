/** sdr-rdma: software-defined reliability for RDMA. The published SDR calls, as TypeScript. */
export { ERROR_NUMBERS, type ErrorCode, SdrError } from "../base/errors.ts";
export * from "../base/units.ts";
export * from "../codec/index.ts";
export * from "../link/profile.ts";
export * from "../reliability/index.ts";
export type { DpaTransportOptions } from "../transport/dpa.ts";
export {
  EmulatedWorld,
  type EmulatedWorldOptions,
  PACKET_RECORDS_MAX,
  type PacketRecord,
} from "../transport/emulated.ts";
export type { NativeCounters, NativeLinkCounters } from "../transport/native.ts";
export type { Capabilities } from "../transport/transport.ts";
export type { UdpTransportOptions } from "../transport/udp.ts";
export type { VerbsTransportOptions } from "../transport/verbs.ts";
export {
  LIMITS,
  type QueuePairAttributes,
  type ResolvedAttributes,
  splitFor,
} from "./attributes.ts";
export { Context } from "./context.ts";
export { QueuePair, type QueuePairCounters } from "./queue-pair.ts";
export {
  ReceiveHandle,
  type ReceiveOptions,
  type ReceiveProgress,
  type Recovered,
} from "./receive-handle.ts";
export { type BufferSource, MemoryRegion } from "./region.ts";
export {
  type ReceiveReport,
  reliableReceive,
  reliableWrite,
  type Transfer,
  type TransferOptions,
  type TransferProgress,
  type WriteOptions,
  type WriteReport,
} from "./reliable.ts";
export { connect, listen, RendezvousServer } from "./rendezvous.ts";
export {
  type Connection,
  type ConnectOptions,
  type ContextSource,
  type ListenOptions,
  RENDEZVOUS_LIMITS,
  type RendezvousPath,
} from "./rendezvous-exchange.ts";
export { type ContinueRequest, SendHandle, type SendOptions } from "./send-handle.ts";
