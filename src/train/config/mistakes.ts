// What is wrong with a training configuration as written, in words: keys that do not exist, values that cannot be.
import type { z } from "zod";
import { KinoraError } from "../../base/errors.ts";
import { nearestName } from "../../base/nearest.ts";
import { isRow, type Row } from "../../base/rows.ts";
import { trainConfigSchema, trainTables } from "../../protocol/train-config.ts";
import { choiceKeys } from "./choices.ts";

/** What musubi-tuner's users write for the same thing. */
const musubiNames: Readonly<Record<string, string>> = {
  dataset_config: "dataset",
  discrete_flow_shift: "time.shift",
  fp8_base: 'model.base = "fp8"',
  fp8_scaled: 'model.base = "fp8"',
  gradient_accumulation_steps: "optimizer.accumulation",
  checkpointing: "model.recompute",
  gradient_checkpointing: "model.recompute",
  lr: "optimizer.learning_rate",
  lr_scheduler: "schedule.kind",
  lr_scheduler_num_cycles: "schedule.cycles",
  lr_scheduler_power: "schedule.power",
  lr_warmup_steps: "schedule.warmup",
  max_grad_norm: "optimizer.clip",
  max_train_epochs: "epochs",
  max_train_steps: "steps",
  mixed_precision: "model.base",
  network_alpha: "lora.alpha",
  network_dim: "lora.rank",
  network_dropout: "lora.dropout",
  optimizer_type: "optimizer.kind",
  output_dir: "output",
  output_name: "name",
  sample_at_first: "preview.at_start",
  sample_every_n_epochs: "preview.every_epochs",
  sample_every_n_steps: "preview.every_steps",
  sample_prompts: "preview.prompts",
  save_every_n_epochs: "save.every_epochs",
  save_every_n_steps: "save.every_steps",
  sigmoid_scale: "time.scale",
  t5: "model.text_encoder",
  task: "model.name",
  timestep_sampling: "time.sampling",
};

/** Throws at the first unknown key, naming the nearest known one or the table it belongs to. */
export function checkKeys(root: Row): void {
  const top = Object.keys(trainConfigSchema.shape);
  const tables = Object.fromEntries(
    Object.entries(trainTables).map(([name, schema]) => [name, [...Object.keys(schema.shape), ...choiceKeys(name)]]),
  );
  const check = (key: string, known: readonly string[], place: string, inTable: boolean) => {
    if (known.includes(key)) return;
    const homes = Object.entries(tables).filter(([, keys]) => keys.includes(key));
    const home = top.includes(key) && inTable ? "at the top of the file" : homes[0] && `in [${homes[0][0]}]`;
    const near = nearestName(key, known);
    const anywhere = nearestName(
      key,
      Object.entries(tables).flatMap(([, keys]) => keys),
    );
    const anywhereHome = Object.entries(tables).find(([, keys]) => anywhere !== undefined && keys.includes(anywhere));
    const hint = home
      ? `${key} belongs ${home}`
      : musubiNames[key]
        ? `here it is ${musubiNames[key]}`
        : near
          ? `did you mean ${near}?`
          : anywhereHome
            ? `did you mean ${anywhere} in [${anywhereHome[0]}]?`
            : `known here: ${known.join(", ")}`;
    throw new KinoraError("train-config.unknown-key", `unknown key "${key}" ${place}`, { hint });
  };
  for (const [key, value] of Object.entries(root)) {
    check(key, top, "at the top of the file", false);
    const known = tables[key];
    if (known && isRow(value)) for (const inner of Object.keys(value)) check(inner, known, `in [${key}]`, true);
  }
}

/** For settings whose right values are not obvious. */
const advice: Readonly<Record<string, string>> = {
  device: "there is no cuda device in this version; kinora doctor says which devices this machine has",
  "optimizer.learning_rate": "1e-4 is usual for a LoRA, 1e-5 for a full fine-tune",
};

const kinds: Readonly<Record<string, string>> = {
  number: "a number",
  int: "a whole number",
  string: "text",
  boolean: "true or false",
  array: "a list",
  tuple: "a list",
  object: "a table",
  record: "a table",
};

/** Throws `train-config.invalid` with every value that is wrong, and what would be right. */
export function refuseValues(issues: readonly z.core.$ZodIssue[], root: Row): never {
  const told = issues.map((issue) => tell(issue, [], root));
  const hint = told.find((one) => one.hint !== undefined)?.hint ?? "docs/training.md lists every setting";
  throw new KinoraError("train-config.invalid", told.map(({ words }) => words).join("; "), { hint });
}

function tell(
  issue: z.core.$ZodIssue,
  above: readonly PropertyKey[],
  root: Row,
): { words: string; hint: string | undefined } {
  const path = [...above, ...issue.path];
  const value = path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key], root);
  if (issue.code === "invalid_union") {
    // The branch that is meant is one whose kind the value has.
    const meant = issue.errors.find(
      (branch) => branch.length > 0 && !branch.some(({ path: inner }) => inner.length === 0),
    );
    const first = (meant ?? issue.errors[0])?.[0];
    if (meant && first) return tell(first, path, root);
  }
  const given = typeof value === "number" || typeof value === "string" ? ` (it is ${value})` : "";
  const key = path.join(".");
  const near =
    issue.code === "invalid_value" && typeof value === "string"
      ? nearestName(value, issue.values.map(String))
      : undefined;
  return { words: `${key} ${rule(issue)}${given}`, hint: near ? `did you mean ${near}?` : advice[key] };
}

/** What a value must be, to stand behind its name. */
function rule(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case "invalid_type":
      return `must be ${kinds[issue.expected] ?? issue.expected}`;
    case "too_small":
      if (issue.origin === "string" || issue.origin === "array") return "must not be empty";
      return `must be ${issue.inclusive === false ? "above" : "at least"} ${issue.minimum}`;
    case "too_big":
      return `must be ${issue.inclusive === false ? "below" : "at most"} ${issue.maximum}`;
    case "invalid_value":
      return `must be one of ${issue.values.map(String).join(", ")}`;
    default:
      return `is wrong: ${issue.message}`;
  }
}
