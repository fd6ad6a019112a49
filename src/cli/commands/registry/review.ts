// kinora registry review: how versions fared in a month.
import { defined } from "../../../base/defined.ts";
import { formatBytes, formatSeconds, plural } from "../../../base/units.ts";
import { writeFileAtomic } from "../../../io/atomic.ts";
import type { ResultOf } from "../../../jobs/table.ts";
import { command } from "../../command.ts";
import { perform } from "../../follow.ts";
import { noArguments, storeOption } from "./shared.ts";

export const registryReview = command({
  name: "registry review",
  usage: "[--month YYYY-MM] [--html FILE] [--prometheus]",
  options: {
    ...storeOption,
    month: { type: "string", help: "month to review (default: this one)", value: "YYYY-MM" },
    html: { type: "string", help: "write a page as well", value: "FILE" },
    prometheus: { type: "boolean", help: "print Prometheus metrics instead" },
  },
  details: `
Sums up, for each version in use: generations, errors, time, memory, feedback, trend against the month before, and what needs
a look and why.`,
  async run({ store, month, html: file, prometheus }, positionals, out) {
    noArguments("review", positionals);
    const { html, ...result } = await perform(out, "registry-review", defined({ store, month }));
    if (file !== undefined) await writeFileAtomic(file, html);
    out.answer(result, () => (prometheus ? result.prometheus.trimEnd() : reviewed(result)));
    return 0;
  },
});

function reviewed({ month, versions }: Omit<ResultOf<"registry-review">, "html">): string {
  if (versions.length === 0) return `${month}: nothing in use`;
  return versions
    .flatMap(({ address, version, status, generations, errors, seconds, peakBytes, feedback, trend, concerns }) => {
      const parts = [
        `${plural(generations, "generation")}, ${plural(errors, "error")}`,
        ...(seconds === undefined ? [] : [`median ${formatSeconds(seconds)}`]),
        ...(peakBytes === undefined ? [] : [formatBytes(peakBytes)]),
        `feedback ${feedback.good} good, ${feedback.bad} bad`,
        ...(trend ? [trend] : []),
      ];
      return [`${address}@${version} (${status}): ${parts.join(", ")}`, ...concerns.map((text) => `    ${text}`)];
    })
    .join("\n");
}
