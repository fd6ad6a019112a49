// kinora plan: what a run costs, before anything loads.
import { KinoraError } from "../../base/errors.ts";
import { nearestName } from "../../base/nearest.ts";
import { formatBytes, formatCount, formatFlops } from "../../base/units.ts";
import { type WanModel, type WanModelName, wanModels } from "../../models/wan/params.ts";
import { type ForwardPlan, planForward } from "../../models/wan/plan.ts";
import { command } from "../command.ts";
import { parseSize, parseWholeNumber } from "../parse.ts";

/** A model by its name. Throws `model.unknown` with the nearest. */
export function findModel(name: string): WanModel {
  const model = wanModels[name as WanModelName];
  if (model) return model;
  const near = nearestName(name, Object.keys(wanModels));
  throw new KinoraError("model.unknown", `unknown model ${name}`, {
    expected: Object.keys(wanModels).join(", "),
    hint: near ? `did you mean ${near}?` : undefined,
  });
}

export const planCommand = command({
  name: "plan",
  summary: "Say what a forward pass of a model costs, in bytes and arithmetic, before anything loads.",
  usage: "--model MODEL [--size W*H] [--frames F]",
  options: {
    model: { type: "string", value: "MODEL", help: `one of ${Object.keys(wanModels).join(", ")}` },
    size: { type: "string", value: "W*H", help: "pixels; the model's usual size where absent" },
    frames: { type: "string", value: "F", help: "frames, 4n + 1; the model's usual count where absent" },
    dtype: { type: "string", value: "bf16|f32", default: "bf16", help: "what the weights and large products are in" },
  },
  details: `
Counts the same code that runs, on a device that allocates nothing. FLOPs count a multiply-add as two; bytes are exact
for tensors and do not count the text encoder, the autoencoder or the process itself.`,
  async run(values, _positionals, out) {
    if (values.model === undefined) {
      throw new KinoraError("cli.missing-option", "kinora plan needs --model", {
        hint: `one of ${Object.keys(wanModels).join(", ")}`,
      });
    }
    const model = findModel(values.model);
    const { defaults } = model;
    const { width, height } = values.size === undefined ? defaults : parseSize(values.size);
    const frames = values.frames === undefined ? defaults.frames : parseWholeNumber("--frames", values.frames);
    const { dtype } = values;
    if (dtype !== "bf16" && dtype !== "f32") {
      throw new KinoraError("cli.bad-value", "--dtype is wrong", { expected: "bf16 or f32", actual: dtype });
    }
    const plan = planForward(model, { width, height, frames }, { dtype });
    const header = { model: model.name, size: { width, height }, frames, dtype };
    out.data(values.json ? JSON.stringify({ ...header, ...plan }) : describe(plan, header, defaults.steps));
    return 0;
  },
});

function describe(
  plan: ForwardPlan,
  {
    model,
    size,
    frames,
    dtype,
  }: { model: string; size: { width: number; height: number }; frames: number; dtype: string },
  steps: number,
): string {
  const { bytes } = plan;
  const rows = [
    [
      "parameters",
      `${formatCount(plan.parameters)}${plan.experts === 2 ? " each of two experts; one is needed at a time" : ""}`,
    ],
    ["tokens", plan.tokens.toLocaleString("en-US")],
    [
      "forward",
      `${formatFlops(plan.flops.forward)} (${steps} steps with guidance: ${formatFlops(plan.flops.forward * steps * 2)})`,
    ],
    ["peak memory", formatBytes(bytes.peak)],
    ["  weights", formatBytes(bytes.weights)],
    ["  activations", formatBytes(bytes.activations)],
    ...(bytes.workspace > 0 ? [["  workspace", formatBytes(bytes.workspace)]] : []),
  ];
  const lines = rows.map(([name, value]) => `  ${name!.padEnd(14)} ${value}`);
  return `${model} at ${size.width}×${size.height}, ${frames} frames, ${dtype}\n${lines.join("\n")}`;
}
