// The report of an acceptance test: the films first, a row for each prompt, then the numbers.
import { join } from "node:path";
import { type Html, html, page, table } from "../../base/html.ts";
import { formatBytes, formatSeconds } from "../../base/units.ts";
import { readPlainFile } from "../../io/files.ts";
import { faultLimits, faultNames } from "../../judge/film-faults.ts";
import type { AcceptanceCell } from "../../protocol/jobs/accept.ts";
import type { Judged } from "./accept.ts";

/** Films up to here go into the page itself, so that the registry keeps them with it. */
const EMBEDDED = 30 * 2 ** 20;

const style = `.films{display:flex;flex-wrap:wrap;gap:.9rem}.films figure{margin:0;width:11rem}.films video{width:100%}
.films figcaption{font-size:13px;color:var(--soft)}`;

export async function acceptancePage(
  title: string,
  folder: string,
  cells: readonly AcceptanceCell[],
  { verdict, reasons, time, peak }: Judged,
): Promise<string> {
  let budget = EMBEDDED;
  const rows = new Map<string, Html[]>();
  for (const cell of cells) {
    let source = cell.film;
    const bytes = cell.film && (await readPlainFile(join(folder, cell.film), budget).catch(() => undefined));
    if (bytes) {
      budget -= bytes.length;
      source = `data:video/mp4;base64,${bytes.toString("base64")}`;
    }
    const what = cell.strength === undefined ? "base" : `strength ${cell.strength}`;
    const film = source
      ? html`<video src="${source}" muted loop playsinline controls preload="metadata" aria-label="${cell.prompt}, ${what}"></video>`
      : html`<p class="bad">${cell.error ?? "no film"}</p>`;
    const faults = cell.faults.length > 0 ? html`: <span class="bad">${cell.faults.join(", ")}</span>` : undefined;
    const key = `${cell.prompt} (seed ${cell.seed})`;
    rows.set(key, [...(rows.get(key) ?? []), html`<figure>${film}<figcaption>${what}${faults}</figcaption></figure>`]);
  }
  const number = (name: string) => ({ title: name, numeric: true });
  const body = html`<h1>${title}: ${verdict}</h1><p class="soft">acceptance phase 1: technical faults, against the base model from the same seeds</p>
${reasons.length > 0 ? html`<ul class="findings">${reasons.map((reason) => html`<li class="bad">${reason}</li>`)}</ul>` : undefined}
${[...rows].map(([prompt, figures]) => html`<h3>${prompt}</h3><div class="films">${figures}</div>`)}
<h2>Numbers</h2>
<p class="soft">Medians against the base: time ${time?.toFixed(2) ?? "unknown"}, peak memory ${peak?.toFixed(2) ?? "unknown"}. Limits: ${faultNames.map((name) => `${name} ${faultLimits[name].limit} ${faultLimits[name].unit}`).join("; ")}.</p>
${table(
  [
    { title: "prompt" },
    number("seed"),
    { title: "strength" },
    ...faultNames.map(number),
    number("time"),
    number("peak"),
    { title: "faults" },
  ],
  cells.map((cell) => [
    cell.prompt,
    cell.seed,
    cell.strength === undefined ? "base" : String(cell.strength),
    ...faultNames.map((name) => (cell.measures ? cell.measures[name]!.toFixed(2) : "")),
    cell.seconds === undefined ? "" : formatSeconds(cell.seconds),
    cell.peakBytes === undefined ? "" : formatBytes(cell.peakBytes),
    [...cell.faults, ...(cell.error ? [cell.error] : [])].join(", "),
  ]),
)}`;
  return page(`${title}: ${verdict}`, body, style);
}
