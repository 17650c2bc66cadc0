/** UDP on this machine's loopback against the transport suite: channels, offloads, families, packet sizes. */
import { transportCompliance } from "./transport.ts";
import { udpMaker } from "./udp-fixture.ts";

const small = { packetBytes: 1024, chunkBytes: 4096 };
const variants = [
  { name: "udp", transport: {}, attributes: small },
  { name: "udp, 3 channels", transport: { channels: 3 }, attributes: small },
  {
    name: "udp, no segmentation offloads",
    transport: { allowGso: false, allowGro: false },
    attributes: small,
  },
  {
    name: "udp, IPv6, 1400-byte packets",
    transport: { address: "::1" },
    attributes: { packetBytes: 1400, chunkBytes: 5600 },
  },
  {
    name: "udp, 512-byte packets",
    transport: {},
    attributes: { packetBytes: 512, chunkBytes: 512 },
  },
  {
    name: "udp, 8900-byte packets, IPv6, 2 channels",
    transport: { address: "::1", channels: 2 },
    attributes: { packetBytes: 8900, chunkBytes: 17_800 },
  },
];
for (const variant of variants) transportCompliance(udpMaker(variant));
