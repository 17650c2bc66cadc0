// What a report's page does by itself: draws charts and tables, sorts, switches to dark, and gives its data away. It
// unpacks the JSON in the page, and only ever sets text: nothing from the data becomes HTML or code.
/* global vega, document, window, Blob, DecompressionStream, Response, URL, atob, matchMedia, setTimeout */
(async () => {
  /** Time without a change of the window's width after which charts are laid out anew. */
  const SETTLED_MS = 150;
  /** Of a legend's entry: symbol and space, and a letter. */
  const ENTRY_PIXELS = 34;
  const LETTER_PIXELS = 7;
  /** Narrower plots scroll. */
  const PLOT_PIXELS_MIN = 220;
  /** Rows of a table on the page: what a browser lays out without delay. */
  const ROWS_SHOWN_MAX = 2000;

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return await new Response(stream).json();
  }
  const { charts, tables, data } = await unpack(document.getElementById("contents").textContent);

  const element = (name, properties = {}, children = []) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // ---- tooltips
  const tip = element("div", { id: "tip", hidden: true, role: "status" });
  document.body.append(tip);

  function showTip(_handler, event, _item, value) {
    tip.hidden = value === null || value === undefined || value === "";
    if (tip.hidden) return;
    const pairs = typeof value === "object" ? Object.entries(value) : [["", value]];
    tip.replaceChildren(
      ...pairs.map(([name, text]) =>
        element("div", {}, [
          element("span", { textContent: name }),
          element("b", { textContent: String(text) }),
        ]),
      ),
    );
    const { width, height } = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, window.innerWidth - width - 6);
    const below = event.clientY + 14;
    const fits = below + height < window.innerHeight;
    tip.style.left = `${Math.max(6, left)}px`;
    tip.style.top = `${fits ? below : event.clientY - height - 14}px`;
  }

  // ---- charts
  /** The chart's specification for a width: as many panels beside each other as fit, legends as wide as that. */
  function arrange({ spec, panelPixels, elastic }, pixels) {
    const copy = structuredClone(spec);
    const lacking = elastic ? panelPixels - pixels : 0;
    if (lacking > 0) {
      const width = (copy.signals || []).find(({ name }) => name === "child_width");
      if (width) width.value = Math.max(PLOT_PIXELS_MIN, width.value - lacking);
      else copy.width = Math.max(PLOT_PIXELS_MIN, copy.width - lacking);
    }
    let used = 0;
    if (panelPixels && copy.layout?.columns) {
      used = Math.max(1, Math.min(copy.layout.columns, Math.floor(pixels / panelPixels)));
      copy.layout.columns = used;
    }
    for (const legend of copy.legends || []) {
      const scale = copy.scales.find(
        ({ name }) => name === (legend.fill || legend.stroke || legend.shape),
      );
      if (!legend.columns || !scale || !Array.isArray(scale.domain)) continue;
      const widths = scale.domain.map(
        (entry) => String(entry).length * LETTER_PIXELS + ENTRY_PIXELS,
      );
      const inOne = widths.reduce((sum, width) => sum + width, 0) <= pixels;
      const most = Math.max(1, Math.floor(pixels / Math.max(...widths)));
      legend.columns = inOne ? widths.length : Math.min(legend.columns, most);
    }
    const columns = (copy.legends || []).map((legend) => legend.columns);
    return { fitted: copy, layout: JSON.stringify([used, lacking > 0 ? pixels : 0, columns]) };
  }

  const drawn = new Map();

  function draw(chart) {
    const place = document.querySelector(`[data-chart="${chart.id}"]`);
    const { fitted, layout } = arrange(chart, place.clientWidth);
    const before = drawn.get(chart.id);
    if (before && before.layout === layout) return;
    const kept = before?.signals;
    if (before) before.view.finalize();
    place.replaceChildren();
    const binds = element("div", { className: "picks" });
    const canvas = element("div");
    place.append(binds, canvas);
    const view = new vega.View(vega.parse(fitted), {
      ...{ renderer: "svg", container: canvas, bind: binds, hover: true },
      ...{ tooltip: showTip, loader: offline },
    });
    const entry = { view, layout, signals: kept || {} };
    drawn.set(chart.id, entry);
    if (kept && "pick" in kept) view.signal("pick", kept.pick);
    view.run();
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", chart.label);
    if (!(fitted.signals || []).some(({ name }) => name === "pick")) return;
    const note = (_name, value) => {
      entry.signals.pick = value;
      place.dataset.picked = value;
    };
    note("pick", view.signal("pick"));
    view.addSignalListener("pick", note);
  }

  /** Charts have their data within; the page's policy would refuse a connection anyway. */
  const offline = vega.loader();
  offline.load = () => Promise.reject(new Error("this page loads nothing"));

  function drawAll() {
    for (const chart of charts) draw(chart);
  }

  // ---- tables
  const keyOf = (cell) => (Array.isArray(cell) ? cell[1] : cell);
  const textOf = (cell) => (Array.isArray(cell) ? cell[0] : cell);

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }

  function fillBody(body, { columns, rows }) {
    const lines = rows.slice(0, ROWS_SHOWN_MAX).map((cells) =>
      element(
        "tr",
        {},
        cells.map((cell, index) =>
          element("td", {
            textContent: textOf(cell),
            className: columns[index].numeric ? "numeric" : "",
          }),
        ),
      ),
    );
    body.replaceChildren(...lines);
    if (rows.length <= ROWS_SHOWN_MAX) return;
    const note = `The first ${ROWS_SHOWN_MAX} of ${rows.length} rows in this order; the downloads have all.`;
    body.append(element("tr", {}, [element("td", { textContent: note, colSpan: columns.length })]));
  }

  function makeTable(place, table) {
    const body = element("tbody");
    const headers = table.columns.map(({ title, numeric }, index) => {
      const button = element("button", { type: "button", textContent: title });
      const header = element("th", { scope: "col", className: numeric ? "numeric" : "" }, [button]);
      header.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const down = header.getAttribute("aria-sort") === "ascending";
        for (const other of headers) other.setAttribute("aria-sort", "none");
        header.setAttribute("aria-sort", down ? "descending" : "ascending");
        const sign = down ? -1 : 1;
        const rows = [...table.rows].sort(
          (a, b) => sign * compare(keyOf(a[index]), keyOf(b[index])),
        );
        fillBody(body, { columns: table.columns, rows });
      });
      return header;
    });
    place.append(element("thead", {}, [element("tr", {}, headers)]), body);
    fillBody(body, table);
  }

  // ---- data
  function records() {
    return data.rows.map((values) =>
      Object.fromEntries(
        data.fields
          .map((field, index) => [field, values[index]])
          .filter(([, value]) => value !== null),
      ),
    );
  }

  /** A field of CSV (RFC 4180). Text that a spreadsheet would take for a formula gets an apostrophe. */
  function csvField(value) {
    if (value === null) return "";
    if (typeof value === "number" || typeof value === "boolean") return String(value);
    const text = Array.isArray(value) ? value.join(" ") : String(value);
    const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  }

  const formats = {
    jsonl: () =>
      records()
        .map((record) => `${JSON.stringify(record)}\n`)
        .join(""),
    csv: () =>
      [data.fields, ...data.rows].map((row) => `${row.map(csvField).join(",")}\r\n`).join(""),
  };
  const types = { jsonl: "application/x-ndjson", csv: "text/csv" };

  function download(format) {
    const url = URL.createObjectURL(new Blob([formats[format]()], { type: types[format] }));
    const link = element("a", { href: url, download: `${data.name}.${format}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  for (const button of document.querySelectorAll("[data-download]")) {
    button.addEventListener("click", () => download(button.dataset.download));
  }

  // ---- light and dark: what the system prefers, until the reader says otherwise
  const theme = document.getElementById("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  let chosen;

  function applyTheme() {
    const dark = chosen === undefined ? prefersDark.matches : chosen;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    theme.setAttribute("aria-pressed", String(dark));
  }

  theme.addEventListener("click", () => {
    chosen = document.documentElement.dataset.theme !== "dark";
    applyTheme();
  });
  prefersDark.addEventListener("change", applyTheme);
  applyTheme();

  for (const place of document.querySelectorAll("[data-table]")) {
    makeTable(place, tables[Number(place.dataset.table)]);
  }
  // One after the other, so that the page can be read and scrolled meanwhile.
  for (const chart of charts) {
    draw(chart);
    await new Promise((resolve) => setTimeout(resolve));
  }
  let settling;
  window.addEventListener("resize", () => {
    clearTimeout(settling);
    settling = setTimeout(drawAll, SETTLED_MS);
  });
  // For print the page's width is another; what is drawn is scaled by its styles.
  document.documentElement.dataset.ready = "true";
})();
