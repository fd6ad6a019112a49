// `kinora show FILE`: prints the recipe that a film, or saved latents, carry.
import { KinoraError } from "../../base/errors.ts";
import { describeRow } from "../../base/table.ts";
import type { Recipe } from "../../protocol/recipe.ts";
import { describeCache } from "../../sample/caches/index.ts";
import { describeGuidance } from "../../sample/guidance/index.ts";
import { command } from "../command.ts";
import { perform } from "../follow.ts";

/** Digits of a hash that people compare. */
const SHOWN_DIGITS = 12;
/** Longer texts are cut, unless --json asks for all. */
const SHOWN_TEXT = 2000;

function rows(recipe: Recipe): [label: string, text: string][] {
  const { video, size, weights, loras, image, boundary } = recipe;
  const [low, high] = [describeGuidance(recipe.guidance.low), describeGuidance(recipe.guidance.high)];
  const content = ({ name, sha256 }: { name: string; sha256: string }) => `${name} (${sha256.slice(0, SHOWN_DIGITS)}…)`;
  const text = (value: string) => (value.length > SHOWN_TEXT ? `${value.slice(0, SHOWN_TEXT)}…` : value);
  const experts = weights.high !== undefined;
  const asked =
    size.width === video.width && size.height === video.height ? "" : ` (asked: ${size.width}×${size.height})`;
  return [
    ["task", recipe.task],
    ["prompt", text(recipe.prompt)],
    ["negative", text(recipe.negative)],
    ["seed", `${recipe.seed} (${recipe.noise} noise)`],
    ["video", `${video.width}×${video.height}${asked}, ${recipe.frames} frames at ${recipe.fps} fps`],
    [
      "sampler",
      `${describeRow(recipe.sampler, recipe.samplerOptions)}, ${recipe.steps} steps${scheduled(recipe)}, shift ${recipe.shift}`,
    ],
    ...(recipe.cache ? [["cache", describeCache(recipe.cache)] satisfies [string, string]] : []),
    ...(recipe.nagNegative === undefined ? [] : [["NAG avoids", text(recipe.nagNegative)] satisfies [string, string]]),
    ["guidance", experts ? `${low} low noise, ${high} high noise` : low],
    ...(boundary === undefined ? [] : [["boundary", String(boundary)] satisfies [string, string]]),
    ...(image ? [["image", content(image)] satisfies [string, string]] : []),
    ...(weights.high ? [["high noise", content(weights.high)] satisfies [string, string]] : []),
    [experts ? "low noise" : "transformer", content(weights.low)],
    ["autoencoder", content(weights.vae)],
    ["text encoder", content(weights.textEncoder)],
    ["tokenizer", content(weights.tokenizer)],
    ...loras.map((lora): [string, string] => [
      "lora",
      `${content(lora)} at ${lora.strength}${experts ? `, ${lora.expert === "both" ? "both experts" : `${lora.expert} noise`}` : ""}${lora.exclude ? `, without ${lora.exclude.join(", ")}` : ""}${lora.registry ? `, registry:${lora.registry}` : ""}`,
    ]),
    ["computed in", `${recipe.dtype} on ${recipe.device}`],
    ["made by", `Kinora ${recipe.kinora}`],
  ];
}

const scheduled = ({ schedule, scheduleOptions }: Recipe): string =>
  schedule === undefined ? "" : ` of the schedule ${describeRow(schedule, scheduleOptions)}`;

export const showCommand = command({
  name: "show",
  usage: "FILE.mp4",
  details: `
Reads the recipe that kinora generate wrote into a video or .latents.safetensors file. kinora generate --from FILE.mp4
repeats it.`,
  options: {},
  async run(_values, positionals, out) {
    const [path, ...more] = positionals;
    if (path === undefined || more.length > 0) {
      throw new KinoraError("cli.bad-arguments", "show takes one file", { hint: "kinora show out.mp4" });
    }
    const recipe = await perform(out, "read-recipe", { path });
    out.answer(recipe, () =>
      rows(recipe)
        .map(([label, text]) => `${label.padEnd(14)} ${text.replaceAll("\n", `\n${" ".repeat(15)}`)}`)
        .join("\n"),
    );
    return 0;
  },
});
