import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

const PROGRAM = fileURLToPath(new URL("./teardown-program.mjs", import.meta.url));
const DEADLINE_MS = 60_000;

async function run(how: string): Promise<{ code: number; stdout: string; stderr: string }> {
  try {
    const done = await promisify(execFile)(process.execPath, [PROGRAM, how], {
      timeout: DEADLINE_MS,
    });
    return { code: 0, ...done };
  } catch (error) {
    return error as { code: number; stdout: string; stderr: string };
  }
}

describe("an environment that ends while UDP transfers are under way", () => {
  it("joins its threads when a worker is terminated, again and again", async () => {
    const { code, stdout, stderr } = await run("terminate");
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "terminated\n", stderr: "" });
  });

  it("survives that a worker is terminated while it opens and closes contexts", async () => {
    const { code, stdout, stderr } = await run("terminate-opening");
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "terminated\n", stderr: "" });
  });

  it("ends with the status given to process.exit", async () => {
    const { code, stderr } = await run("exit");
    expect({ code, stderr }).toEqual({ code: 3, stderr: "" });
  });

  it("leaves an exception of the program to the program", async () => {
    const { code, stderr } = await run("throw");
    expect({ code, stderr }).toEqual({ code: 4, stderr: "" });
  });
});
