/** sdr devices */
import { Command } from "commander";
import { print, printJson } from "../terminal.ts";
import { diagnose } from "./diagnose.ts";
import { gather } from "./gather.ts";
import { reportText } from "./text.ts";

async function run({ json }: { json?: true }): Promise<void> {
  const facts = await gather();
  const report = diagnose(facts);
  if (!json) return print(reportText(report));
  const { platform, arch, kernel, library, rxeModule, memlockBytes, flexioLibrary } = facts;
  const machine = { platform, arch, kernel, library, rxeModule, memlockBytes, flexioLibrary };
  printJson({ ...report, machine });
}

export function devicesCommand(): Command {
  return new Command("devices")
    .description("RDMA devices, what they can do, and why a backend is or is not available")
    .option("--json", "print one JSON document on stdout")
    .action(run);
}
