// The monthly review as a page: what needs a look first, then every version's numbers.
import { html, page, table } from "../../base/html.ts";
import { formatBytes, formatSeconds } from "../../base/units.ts";
import type { ReviewedVersion } from "../../registry/review.ts";

export function reviewPage(month: string, rows: readonly ReviewedVersion[]): string {
  const number = (title: string) => ({ title, numeric: true });
  const concerns = rows.flatMap(({ address, version, concerns }) =>
    concerns.map((concern) => html`<li><b>${address}@${version}</b>: ${concern}</li>`),
  );
  const columns = [
    { title: "LoRA" },
    { title: "version" },
    { title: "status" },
    ...["generations", "errors", "median time", "median peak memory", "good", "bad"].map(number),
    { title: "trend" },
  ];
  const body = html`<h1>Registry, ${month}</h1>
${concerns.length > 0 ? html`<h2>Needs a look</h2><ul class="findings">${concerns}</ul>` : html`<p class="good">Nothing needs a look.</p>`}
<h2>Versions</h2>${table(
    columns,
    rows.map((row) => [
      ...[row.address, row.version, row.status, String(row.generations), String(row.errors)],
      row.seconds === undefined ? "" : formatSeconds(row.seconds),
      row.peakBytes === undefined ? "" : formatBytes(row.peakBytes),
      ...[String(row.feedback.good), String(row.feedback.bad), row.trend ?? ""],
    ]),
    { filter: true },
  )}`;
  return page(`Registry, ${month}`, body);
}
