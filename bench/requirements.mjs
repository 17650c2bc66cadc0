// What figures have to reach. A part of the benchmark gives {name, measured} with `least` or `most`.
import { renderTable } from "../dist/report/table.js";

function isMet({ least, most, measured }) {
  return least === undefined ? measured <= most : measured >= least;
}

/** As many digits as a limit needs; for what was measured two more, so that a near miss does not look met. */
function digitsOf(limit) {
  return (String(limit).split(".")[1] ?? "").length;
}

export function requirementsTable(requirements) {
  const limit = ({ least, most }) => least ?? most;
  return renderTable(
    [
      { title: "required", align: "left", cell: (row) => row.name },
      {
        title: "",
        align: "left",
        cell: (row) => `at ${row.least === undefined ? "most" : "least"}`,
      },
      { title: "limit", cell: (row) => limit(row).toFixed(digitsOf(limit(row))) },
      { title: "measured", cell: (row) => row.measured.toFixed(digitsOf(limit(row)) + 2) },
      { title: "", align: "left", cell: (row) => (isMet(row) ? "met" : "MISSED") },
    ],
    requirements,
  );
}
