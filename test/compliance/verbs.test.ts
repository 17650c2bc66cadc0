/** The verbs transport over emulated devices against the transport suite: both key schemes, channels, UC and RC. */
import { transportCompliance } from "./transport.ts";
import { DEVICES, useEmulatedDevice, verbsMaker } from "./verbs-fixture.ts";

const unavailable = useEmulatedDevice(DEVICES);
const small = { packetBytes: 1024, chunkBytes: 4096 };
const variants = [
  {
    name: "verbs, keys of each message",
    devices: ["rxe0", "rxe1"],
    transport: {},
    attributes: small,
  },
  { name: "verbs, root key", devices: ["mlx5_0", "mlx5_1"], transport: {}, attributes: small },
  {
    name: "verbs, root key, 3 channels",
    devices: ["mlx5_0", "mlx5_1"],
    transport: { channels: 3 },
    attributes: { packetBytes: 512, chunkBytes: 512 },
  },
  {
    name: "verbs, RC, 2 channels",
    devices: ["rxe0", "rxe1"],
    transport: { reliable: true, channels: 2 },
    attributes: small,
  },
] as const;
for (const variant of variants) transportCompliance(verbsMaker(variant, unavailable));
