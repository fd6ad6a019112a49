// kinora lora convert FILE --to FORM: the same LoRA under another tool's names.
import { KinoraError } from "../../base/errors.ts";
import { type LoraKeys, loraKeys } from "../../protocol/train-config.ts";
import { command } from "../command.ts";
import { perform } from "../follow.ts";
import { parseChoice } from "../parse.ts";

function keysOf(text: string | undefined): LoraKeys {
  if (text !== undefined) return parseChoice("--to", text, loraKeys);
  throw new KinoraError("cli.missing-option", "--to is missing", {
    expected: loraKeys.join(", "),
    hint: "e.g. --to comfy",
  });
}

export const loraConvert = command({
  name: "lora convert",
  usage: "FILE --to musubi|comfy|diffusers|diffsynth [--out FILE] [--exclude PATTERN]",
  options: {
    to: { type: "string", value: "FORM", help: `${loraKeys.join(", ")}; ComfyUI reads the first two` },
    out: { type: "string", value: "FILE", help: "default: the input's name with the format appended" },
    dtype: { type: "string", value: "f32|bf16|f16", help: "default: the file's own" },
    overwrite: { type: "boolean", help: "replace the file at --out" },
    exclude: {
      type: "string",
      value: "PATTERN",
      help: "leave out modules whose official names match, e.g. patch_embedding",
      multiple: true,
    },
    expert: { type: "string", value: "high|low", help: "which one to write, if the file holds one per expert" },
  },
  details: `
FILE is a file or a PEFT folder (with adapter_config.json). Only musubi's format stores alpha; for the others the
scale alpha/rank is multiplied into the up matrices (kept in float32 if the file's dtype cannot hold the product
exactly). Diffusers loads a low-noise LoRA with load_lora_weights(..., load_into_transformer_2=True); its keys are like
any other's. LoHa, LoKr, DoRA and full differences can be written for musubi and ComfyUI only.`,
  async run(values, [path, ...rest], out) {
    if (path === undefined || rest.length > 0)
      throw new KinoraError("cli.bad-arguments", "give one LoRA file", { hint: "kinora lora convert FILE --to comfy" });
    const to = keysOf(values.to);
    const result = await perform(out, "convert-lora", {
      path,
      to,
      out: values.out,
      dtype: values.dtype === undefined ? undefined : parseChoice("--dtype", values.dtype, ["f32", "bf16", "f16"]),
      overwrite: values.overwrite,
      exclude: values.exclude,
      expert: values.expert === undefined ? undefined : parseChoice("--expert", values.expert, ["high", "low"]),
    });
    const folded = result.folded ? "; alpha is now folded into the matrices" : "";
    const left = result.excluded > 0 ? `; ${result.excluded} left out` : "";
    for (const note of result.notes) out.say(`${path}: ${note}`);
    out.answer(
      result,
      () =>
        `${result.out}: ${result.modules} modules from ${result.from.join(" and ")} names to ${to}, ${result.dtype}${folded}${left}`,
    );
    return 0;
  },
});
