import { Command } from "commander";
export function emulateCommand(): Command {
  return new Command("emulate");
}
