// kinora lora inspect FILE: what a LoRA is for, how it was trained, and whether it does anything.
import { KinoraError } from "../../base/errors.ts";
import type { ResultOf } from "../../jobs/table.ts";
import { command } from "../command.ts";
import { perform } from "../follow.ts";
import { oneLine } from "../terminal.ts";

type LoraDescription = ResultOf<"inspect-lora">;

/** kohya's metadata that people ask for, in their words. */
const trainingFacts: readonly [key: string, label: string][] = [
  ["ss_output_name", "name"],
  ["ss_base_model_version", "trained for"],
  ["ss_sd_model_name", "base"],
  ["ss_steps", "steps"],
  ["ss_epoch", "epoch"],
  ["ss_num_train_items", "items"],
  ["ss_learning_rate", "learning rate"],
  ["ss_lr_scheduler", "schedule"],
  ["ss_optimizer", "optimizer"],
  ["ss_timestep_sampling", "time sampling"],
  ["ss_discrete_flow_shift", "shift"],
  ["ss_seed", "seed"],
  ["modelspec.timestep_range", "timesteps"],
  ["modelspec.title", "title"],
  ["modelspec.date", "date"],
  ["ss_training_comment", "comment"],
];

const plain = (text: string): string => oneLine(text).slice(0, 200);

export const loraInspect = command({
  name: "lora inspect",
  usage: "FILE",
  options: {},
  details: `
Reads the formats of musubi, kohya, ComfyUI, diffusers and DiffSynth. The strength of a group is the mean of
alpha/rank·‖down‖·‖up‖/√rank, useful only to compare LoRAs and groups of layers. Unknown tensors are listed by
name; none is skipped silently.`,
  async run(_values, [path, ...rest], out) {
    if (path === undefined || rest.length > 0)
      throw new KinoraError("cli.bad-arguments", "give one LoRA file", { hint: "kinora lora inspect FILE" });
    const description = await perform(out, "inspect-lora", { path });
    out.answer(description, () => print(description));
    return description.broken.length > 0 ? 1 : 0;
  },
});

const list = (values: readonly number[], none: string): string => values.join(", ") || none;

function print({ path, lora, dtypes, groups, idle, broken, notes, metadata }: LoraDescription): string {
  const { label, formats, ranks, alphas, scales, modules, models, expert, bothExperts, hasAlpha, comfy } = lora;
  const rows: [string, string][] = [
    ["what", label],
    ["names", formats.join(" and ")],
    ["ComfyUI", comfy ? "reads it" : "does not read these keys: kinora lora convert FILE --to comfy"],
    ["rank", list(ranks, "none")],
    ["alpha", `${hasAlpha ? list(alphas, "none") : "none in the file"} (scale ${list(scales, "1")})`],
    ["models", models.join(", ") || "no published size"],
    ...(expert || bothExperts
      ? ([["expert", bothExperts ? "both, told apart by key names" : `${expert} noise`]] as [string, string][])
      : []),
    ["dtype", dtypes.join(", ")],
    ...groups.map((group): [string, string] => [
      group.name,
      `${group.modules} × ${group.kinds.join(" and ")}${scaleText(group)}, strength ${group.strength?.toPrecision(3) ?? "not finite"}`,
    ]),
  ];
  if (idle > 0) rows.push(["no effect", `${idle} of ${modules.length} modules have no effect: their product is zero`]);
  if (broken.length > 0) rows.push(["BROKEN", `NaN or infinite values in ${broken.slice(0, 5).join(", ")}`]);
  for (const note of notes) rows.push(["note", note]);
  for (const [key, name] of trainingFacts) if (metadata[key] !== undefined) rows.push([name, metadata[key]]);
  const width = Math.max(...rows.map(([name]) => name.length));
  return [plain(path), ...rows.map(([name, text]) => `  ${name.padEnd(width)}  ${plain(text)}`)].join("\n");
}

function scaleText({ ranks, alphas, scales }: LoraDescription["groups"][number]): string {
  return ranks.length > 0 ? `, rank ${ranks.join(", ")}, alpha ${alphas.join(", ")}, scale ${scales.join(", ")}` : "";
}
