// kinora lora convert FILE --to FORM: the same LoRA under another tool's names.
import { basename, dirname, extname, join } from "node:path";
import { KinoraError } from "../../base/errors.ts";
import { convertLora } from "../../lora/convert.ts";
import { keyFormats } from "../../lora/key-formats.ts";
import { type LoraKeys, loraKeys } from "../../protocol/train-config.ts";
import { command } from "../command.ts";
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
  summary: "write a LoRA under another tool's names; it acts identically",
  usage: "FILE --to musubi|comfy|diffusers|diffsynth [--out FILE]",
  options: {
    to: { type: "string", value: "FORM", help: `${loraKeys.join(", ")}; ComfyUI reads the first two` },
    out: { type: "string", value: "FILE", help: "default: the file's name with the form behind it" },
    dtype: { type: "string", value: "f32|bf16|f16", help: "default: the file's own" },
    overwrite: { type: "boolean", help: "replace the file at --out" },
  },
  details: `
Only musubi's form has an alpha of its own; for the others the scale alpha/rank is multiplied into the up matrices (kept
in float32 where the file's format could not hold the product exactly).`,
  async run(values, [path, ...rest], out) {
    if (path === undefined || rest.length > 0)
      throw new KinoraError("cli.bad-arguments", "name one LoRA file", { hint: "kinora lora convert FILE --to comfy" });
    const keys = keysOf(values.to);
    const dtype = values.dtype === undefined ? undefined : parseChoice("--dtype", values.dtype, ["f32", "bf16", "f16"]);
    const target = values.out ?? join(dirname(path), `${basename(path, extname(path))}_${keys}.safetensors`);
    const result = await convertLora(path, target, {
      format: keyFormats[keys],
      overwrite: values.overwrite,
      ...(dtype ? { dtype } : {}),
    });
    if (values.json) out.data(JSON.stringify({ path, out: target, ...result }));
    else {
      const folded = result.folded ? "; the scale is now in the matrices" : "";
      out.data(
        `${target}: ${result.modules} modules from ${result.from.join(" and ")} names to ${keys}, ${result.dtype}${folded}`,
      );
    }
    return 0;
  },
});
