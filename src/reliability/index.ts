/** Reliability policies: the interface to write one against, the built-in ones, and their parts for reuse. */
export * from "./acknowledger.ts";
export * from "./ask-list.ts";
export * from "./bitmap.ts";
export * from "./block-decoder.ts";
export * from "./block-fallback.ts";
export * from "./block-layout.ts";
export * from "./block-schedule.ts";
export * from "./chunk-table.ts";
export * from "./codec.ts";
export * from "./erasure-coding.ts";
export * from "./frames.ts";
export * from "./gap-detector.ts";
export * from "./go-back-n.ts";
export type * from "./policy.ts";
export * from "./registry.ts";
export * from "./retransmission-guard.ts";
export * from "./rtt.ts";
export * from "./selective-repeat.ts";
