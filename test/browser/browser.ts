/** A headless browser for tests of pages; where there is none the tests are skipped, and say why. */
import { existsSync } from "node:fs";
import { type Browser, chromium, type Page } from "playwright-core";

const PLACES = [
  process.env.SDR_CHROMIUM,
  ...["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"],
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/** The program, or undefined: that is printed. */
export function findBrowser(): string | undefined {
  const found = PLACES.find((place) => place !== undefined && existsSync(place));
  if (found === undefined) {
    console.warn("skipped: no Chromium here (install it, or name it in SDR_CHROMIUM)");
  }
  return found;
}

export function launch(executablePath: string): Promise<Browser> {
  // Containers rarely allow the sandbox; the pages are our own.
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
}

/** A page with everything that it complained of or asked for besides itself. */
export interface Watched {
  readonly page: Page;
  readonly complaints: string[];
  readonly requests: string[];
}

/** Opens a file as a reader would; returns when its script has drawn everything. */
export async function openFile(
  browser: Browser,
  path: string,
  options: Parameters<Browser["newPage"]>[0] = {},
): Promise<Watched> {
  const page = await browser.newPage({ viewport: { width: 1100, height: 800 }, ...options });
  const complaints: string[] = [];
  const requests: string[] = [];
  page.on("console", (message) => complaints.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(`file://${path}`);
  await page.waitForSelector("html[data-ready]", { state: "attached" });
  return { page, complaints, requests: requests.filter((url) => url !== `file://${path}`) };
}

/** How many different colours a screenshot has, of those that cover more than `share` of it. */
export async function colourCount(page: Page, share = 0.0002): Promise<number> {
  const png = (await page.screenshot()).toString("base64");
  // Decoded by the browser, in a page of its own: the report's policy would refuse the image.
  const other = await page.context().browser()!.newPage();
  try {
    return await other.evaluate(
      `(async () => {
        const blob = await (await fetch("data:image/png;base64,${png}")).blob();
        const image = await createImageBitmap(blob);
        const canvas = new OffscreenCanvas(image.width, image.height);
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        const { data } = context.getImageData(0, 0, image.width, image.height);
        const counts = new Map();
        for (let i = 0; i < data.length; i += 4) {
          const colour = (data[i] << 16) | (data[i + 1] << 8) | data[i + 2];
          counts.set(colour, (counts.get(colour) ?? 0) + 1);
        }
        return [...counts.values()].filter((count) => count > ${share} * (data.length / 4)).length;
      })()`,
    );
  } finally {
    await other.close();
  }
}
