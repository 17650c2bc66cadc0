/**
 * Links with a name. Each describes ONE direction: give it for both, or another one for the way
 * back. `source` says which numbers were published and which are a choice of ours.
 */
export interface NamedProfile {
  readonly name: string;
  /** In the vocabulary of parseLink. */
  readonly text: string;
  readonly about: string;
  /** Who measured it, up to the first colon or semicolon; then what, and what was chosen here. */
  readonly source: string;
}

const SDR = "SDR-RDMA, SC'25, arXiv 2505.05366";
const AZURE = "Azure network latency page, 2026-07: P95 round trip, halved; the rate is ours";
const STARLINK = "Michel et al., A First Look at Starlink Performance, IMC'22";
// A jitter would draw each packet's delay by itself and so reorder, which that path does not do.
const STARLINK_CHOICE =
  "rates are ours; the median delay, without its slow variation (15 s slots, handover spikes of 30 ms: Huston 2024)";
const STARLINK_CHOICE_JITTER = "rates are ours";

export const PROFILES: readonly NamedProfile[] = [
  {
    name: "none",
    text: "",
    about: "no impairment: no delay, no limit, no loss",
    source: "by definition",
  },
  {
    name: "wan-3750km",
    text: "rate 400gbit delay 12.5ms loss 1e-5",
    about: "between datacenters 3750 km apart: 25 ms round trip",
    source: `${SDR}, section 5: 400 Gbit/s, 25 ms, 1e-5`,
  },
  {
    name: "cscs-350km",
    text: "rate 100gbit delay 1.75ms loss size 1024:0.1%,8192:1%",
    about: "ISP path of 350 km whose loss grows with the payload",
    source:
      `${SDR}, figure 2: 1 KiB 1e-4 to 1e-2, 8 KiB 1e-3 to above 1e-1; here the geometric means, ` +
      "and the light time in fibre",
  },
  {
    name: "cscs-350km-1k",
    text: "rate 100gbit delay 1.75ms loss 0.1%",
    about: "the same path at 1 KiB payloads, whatever is sent",
    source: `${SDR}, figure 2: 1e-4 to 1e-2, here the geometric mean`,
  },
  {
    name: "cscs-350km-8k",
    text: "rate 100gbit delay 1.75ms loss 1%",
    about: "the same path at 8 KiB payloads, whatever is sent",
    source: `${SDR}, figure 2: 1e-3 to above 1e-1, here the geometric mean`,
  },
  {
    name: "private-optical",
    text: "rate 400gbit delay 12.5ms loss 1e-8",
    about: "leased optical path of 3750 km, loss before forward error correction",
    source: `Zhuo et al., SIGCOMM'17, as cited by ${SDR}: loss; rate and delay as wan-3750km`,
  },
  {
    name: "uno-d1",
    // The chain that gives these three probabilities, to the digits below; four of ten then has 2.7e-6. Uno draws the
    // positions within a block evenly, a chain puts them closer together.
    text: "rate 100gbit delay 1ms loss gemodel 0.00789019% 18.811% 12.18915%",
    about: "correlated loss: rare, but then several of ten packets",
    source:
      "Uno, SC'25 artifact: of ten packets one lost 3.0e-4, two 7.5e-5, three 1.6e-5, as here; " +
      "positions in a block differ; 2 ms round trip and 100 Gbit/s as in its figure 13",
  },
  {
    name: "starlink-idle",
    text: "rate 150mbit delay 25ms loss gemodel 0.02008% 5%",
    about: "satellite, down, otherwise idle: 0.40 % loss in bursts of 20 on average",
    source: `${STARLINK}: 50 ms median, 0.40 %, some bursts above 100; ${STARLINK_CHOICE}`,
  },
  {
    name: "starlink-idle-jitter",
    text: "rate 150mbit delay 25ms 5ms loss gemodel 0.02008% 5%",
    about: "starlink-idle with its spread of delays; each packet draws its own, so they overtake",
    source: `${STARLINK}: round trips of 40 to 60 ms, here taken as uniform; ${STARLINK_CHOICE_JITTER}`,
  },
  {
    name: "starlink-idle-up",
    text: "rate 15mbit delay 25ms loss gemodel 0.0226% 5%",
    about: "satellite, up, otherwise idle: 0.45 % loss in bursts",
    source: `${STARLINK}: 50 ms median, 0.45 %; ${STARLINK_CHOICE}`,
  },
  {
    name: "starlink-loaded",
    text: "rate 150mbit delay 47.5ms loss gemodel 0.3962% 25%",
    about: "satellite, down, under load: 1.56 % loss, bursts of 4 on average",
    source: `${STARLINK}: 95 ms median, 1.56 %, 3 of 4 loss events several packets; ${STARLINK_CHOICE}`,
  },
  {
    // Half of 95, 175 and 210 ms lie on a normal law's quantiles within 1 ms: 47.5 + 24.4 x (0, 1.645, 2.326).
    name: "starlink-loaded-jitter",
    text: "rate 150mbit delay 47.5ms 24.4ms distribution normal loss gemodel 0.3962% 25%",
    about: "starlink-loaded with its spread of delays; each packet draws its own, so they overtake",
    source:
      `${STARLINK}: round trips of 95 ms median, 175 ms p95, 210 ms p99, fitted by a normal law; ` +
      STARLINK_CHOICE_JITTER,
  },
  {
    name: "starlink-loaded-up",
    text: "rate 15mbit delay 47.5ms loss gemodel 0.4998% 25%",
    about: "satellite, up, under load: 1.96 % loss, bursts of 4 on average",
    source: `${STARLINK}: 1.96 %, 3 of 4 loss events several packets; ${STARLINK_CHOICE}`,
  },
  {
    name: "transatlantic",
    text: "rate 100gbit delay 29.475ms",
    about: "New York to London by the shortest cable, lossless; add a loss term",
    source: "Hibernia Express, 58.95 ms round trip (operator); the rate is ours",
  },
  {
    name: "azure-eastus-westus",
    text: "rate 100gbit delay 36ms",
    about: "cloud regions across North America, lossless; add a loss term",
    source: AZURE,
  },
  {
    name: "azure-eastus-westeurope",
    text: "rate 100gbit delay 45.5ms",
    about: "cloud regions across the Atlantic, lossless; add a loss term",
    source: AZURE,
  },
  {
    name: "azure-eastus-japaneast",
    text: "rate 100gbit delay 82.5ms",
    about: "cloud regions across the Pacific, lossless; add a loss term",
    source: AZURE,
  },
  {
    name: "demo-wan",
    text: "rate 1gbit delay 12.5ms loss 1% duplicate 0.05% reorder 0.5%",
    about: "what the demo sends its file through: 25 ms round trip, every impairment at once",
    source:
      "ours: the round trip of wan-3750km, the loss of cscs-350km-8k, a rate that any machine keeps up with",
  },
];

/** Other names for the same. */
const ALIASES: Readonly<Record<string, string>> = { clean: "none", clear: "none" };

/** The profile with this name (letter case ignored), or undefined. */
export function findProfile(name: string): NamedProfile | undefined {
  const wanted = name.toLowerCase();
  const canonical = Object.hasOwn(ALIASES, wanted) ? ALIASES[wanted] : wanted;
  return PROFILES.find((profile) => profile.name === canonical);
}
