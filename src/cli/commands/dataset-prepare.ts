// `kinora dataset prepare`: options to a request, events to lines. The work is in dataset/prepare.
import { KinoraError } from "../../base/errors.ts";
import { plural } from "../../base/units.ts";
import type { EventOf, RequestOf, ResultOf } from "../../jobs/table.ts";
import { modelNames } from "../../protocol/model-media.ts";
import { command, type Option, type Values } from "../command.ts";
import { follow, STOPPED } from "../follow.ts";
import { parseNumber, parseSize, parseWholeNumber } from "../parse.ts";
import { oneLine, type Printer } from "../terminal.ts";

type Event = EventOf<"prepare-dataset">;
type Summary = ResultOf<"prepare-dataset">;
type Settings = NonNullable<RequestOf<"prepare-dataset">["settings"]>;

function sizeOf(text: string): [number, number] {
  const { width, height } = parseSize(text);
  return [width, height];
}

function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function progressLine(event: Extract<Event, { type: "progress" }>): string {
  const rest = event.eta === undefined || event.eta < 1 ? "" : `, about ${duration(event.eta)} left`;
  const name = oneLine(event.current);
  // Only what takes long is counted in per cent, so that they never begin again.
  if (event.stage === "open") return `opening ${event.done} of ${event.total}: ${name}`;
  if (event.stage === "render") return `writing ${event.done} of ${event.total}${rest}: ${name}`;
  const share = event.total > 0 ? Math.floor((100 * event.done) / event.total) : 100;
  return `${String(share).padStart(3)} %${rest}: analysing ${name}`;
}

function scannedLine({ films, pictures, others }: Extract<Event, { type: "scanned" }>): string {
  const found = [
    ...(films > 0 ? [plural(films, "film")] : []),
    ...(pictures > 0 ? [plural(pictures, "picture")] : []),
    ...(others > 0 ? [`${plural(others, "other file")} ignored`] : []),
  ];
  return found.join(", ") || "not a video or picture";
}

/** What still gives its other parts. */
const partly: Readonly<Record<string, string>> = {
  "media.damaged": "damaged",
  "media.partial": "cannot use all of",
  "prepare.left-out": "cannot use all of",
};

function problemLine({ path, code, message }: Summary["problems"][number]): string {
  const verb = partly[code] ?? "cannot use";
  return `${verb} ${JSON.stringify(path)}: ${message} (${code})`;
}

/** "12  too short (a, b, c and 9 more)". */
function reasonLine(code: string, ids: readonly string[]): string {
  const more = ids.length > 3 ? ` and ${ids.length - 3} more` : "";
  return `  ${String(ids.length).padStart(5)}  ${code.replaceAll("-", " ")} (${ids.slice(0, 3).join(", ")}${more})`;
}

function summaryLines(summary: Summary, { inFlags }: Printer): string {
  const { videos, images, seconds, dropped, reasons, problems, uncaptioned, notes, hints, work } = summary;
  const kept = [
    ...(videos > 0 ? [`${plural(videos, "clip")} (${duration(seconds)})`] : []),
    ...(images > 0 ? [plural(images, "picture")] : []),
  ];
  const lines = [`kept ${kept.join(" and ") || "nothing"}${dropped > 0 ? `, dropped ${dropped}` : ""}`];
  for (const [code, ids] of Object.entries(reasons).sort((a, b) => b[1].length - a[1].length))
    lines.push(reasonLine(code, ids));
  if (problems.length > 0)
    lines.push(`${plural(problems.length, "source")} with problems (listed above and in the report)`);
  if (uncaptioned > 0) lines.push(`${uncaptioned} without a caption: write them, or see kinora dataset caption --help`);
  lines.push(...notes.map((note) => `note: ${note}`), ...hints.map((hint) => `hint: ${inFlags(hint)}`));
  if (work.analysed + work.rendered + work.written === 0)
    lines.push("nothing to do: sources and settings are unchanged and the set is complete");
  lines.push(`report    ${summary.report}`, `manifest  ${summary.manifest}`);
  return lines.join("\n");
}

/** Prints what happens. */
class Narrator {
  readonly #out: Printer;
  readonly #hinted = new Set<string>();
  #piece = "this file";

  constructor(out: Printer) {
    this.#out = out;
  }

  readonly until = (): string => this.#piece;

  readonly show = (event: Event): void => {
    const out = this.#out;
    switch (event.type) {
      case "scanned":
        out.say(scannedLine(event));
        break;
      case "problem":
        out.say(problemLine(event));
        // The same hint for every one of many files would hide them.
        if (event.hint && !this.#hinted.has(event.hint)) out.say(`  hint: ${out.inFlags(event.hint)}`);
        this.#hinted.add(event.hint ?? "");
        break;
      case "progress":
        this.#piece = event.stage === "render" ? "these clips" : "this file";
        out.progress(progressLine(event));
    }
  };
}

const options = {
  out: { type: "string", help: "output folder of the set", value: "DIR", short: "o" },
  model: { type: "string", help: "the model to train", value: "MODEL", short: "m" },
  config: { type: "string", help: "settings file; command-line options override it", value: "FILE", short: "c" },
  resolution: { type: "string", help: "target size; every bucket has about this area", value: "WxH" },
  shortest: { type: "string", help: "shortest clip (2, or the longest if that is less)", value: "SECONDS" },
  longest: { type: "string", help: "longest clip", value: "SECONDS" },
  crop: { type: "string", help: "part to keep: center, or motion (where most of it happens)", value: "WHERE" },
  upscale: { type: "boolean", help: "enlarge sources smaller than the target" },
  "in-place": { type: "boolean", help: "write no videos; the manifest points to the sources" },
  normalize: { type: "boolean", help: "even out white balance and exposure across the set" },
  "captions-folder": { type: "boolean", help: "also write captions to DIR/captions" },
  trigger: { type: "string", help: "trigger phrase to put before captions that came with the sources", value: "TEXT" },
  "keep-all": { type: "boolean", help: "measure quality, but drop nothing for it" },
  crf: { type: "string", help: "x264 quality of written clips, 0 lossless", value: "N" },
  jobs: { type: "string", help: "sources processed at once", value: "N", short: "j" },
} as const satisfies Record<string, Option>;

/** Settings as the file has them; what is not given stays away. */
function settingsOf(values: Values<typeof options>): Settings {
  return {
    ...(values.shortest === undefined && values.longest === undefined
      ? {}
      : {
          clips: {
            ...(values.shortest === undefined ? {} : { shortest: parseNumber("--shortest", values.shortest) }),
            ...(values.longest === undefined ? {} : { longest: parseNumber("--longest", values.longest) }),
          },
        }),
    ...(values.model === undefined ? {} : { model: values.model as Settings["model"] }),
    ...(values.resolution === undefined ? {} : { resolution: sizeOf(values.resolution) }),
    ...(values.crop === undefined ? {} : { crop: values.crop as Settings["crop"] }),
    ...(values.upscale ? { upscale: true } : {}),
    ...(values["in-place"] ? { in_place: true } : {}),
    ...(values.normalize ? { normalize: true } : {}),
    ...(values["captions-folder"] ? { captions_folder: true } : {}),
    ...(values.trigger === undefined ? {} : { trigger: values.trigger }),
    ...(values.crf === undefined ? {} : { video: { crf: parseNumber("--crf", values.crf) } }),
  };
}

export const datasetPrepare = command({
  name: "dataset prepare",
  usage: "SOURCE… --out DIR --model MODEL [--config FILE]",
  flags: { "clips.longest": "longest", concurrency: "jobs" },
  details: `
SOURCE is any number of files and folders, which are only read. Clips are cut, measured,
resampled to the model's frame rate, cropped, scaled and written to DIR/videos and
DIR/images, next to manifest.json and report.html. Run the same command again to resume;
a finished set is left unchanged. The exit code is 2 if nothing was kept.

Models: ${modelNames.join(", ")}

Settings files (TOML or JSON) and the measures with their limits: docs/dataset.md`,
  options,
  async run(values, positionals, out) {
    if (positionals.length === 0)
      throw new KinoraError("cli.bad-arguments", "no SOURCE was given", { hint: "see kinora dataset prepare --help" });
    if (values.out === undefined)
      throw new KinoraError("cli.bad-arguments", "--out is missing", { hint: "give the folder to write the set to" });
    const request = {
      sources: positionals,
      out: values.out,
      config: values.config,
      settings: settingsOf(values),
      keepAll: values["keep-all"],
      ...(values.jobs === undefined ? {} : { concurrency: parseWholeNumber("--jobs", values.jobs) }),
    };
    const narrator = new Narrator(out);
    const summary = await follow(out, "prepare-dataset", request, {
      show: narrator.show,
      until: narrator.until,
      stopped: () => ({
        value: { stopped: true },
        text: "stopped; finished work is kept, run the same command again to continue",
      }),
    });
    if (!summary) return STOPPED;
    out.answer(summary, () => summaryLines(summary, out));
    return summary.videos + summary.images > 0 ? 0 : 2;
  },
});
