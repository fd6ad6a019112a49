// kinora models convert IN OUT --to FORM: weights in another tool's names or number format.
import { KinoraError } from "../../base/errors.ts";
import { formatBytes } from "../../base/units.ts";
import { weightForms } from "../../models/wan/convert.ts";
import { command } from "../command.ts";
import { perform } from "../follow.ts";
import { timeLeft } from "../progress.ts";

/** Tensors that are listed unless all are asked for. */
const SHOWN = 5;

export const modelsConvert = command({
  name: "models convert",
  usage: "IN OUT --to FORM",
  options: {
    to: { type: "string", value: "FORM", help: weightForms.join(", ") },
    overwrite: { type: "boolean", help: "replace the file OUT" },
    names: { type: "boolean", help: "list the error of every tensor" },
  },
  details: `
IN is a weight file of any kind that kinora models inspect reads (quantised ones too), an index of shards or a folder; it
must hold one network. A few rows are in memory at a time. OUT appears only when it is complete; a stopped conversion leaves
nothing and starts again.

official, comfy and diffusers change names only; quantised weights become bf16. bf16, f16 and f32 convert every tensor.
fp8 (cast), fp8_scaled (ComfyUI's, a scale per tensor) and int8 (ComfyUI's, a scale per row) convert the matrices of the
blocks. gguf:TYPE uses llama.cpp's quantisers, and city96's choice of types for the K mixes, for transformers and UMT5.
The error of each tensor is ‖new − old‖ / ‖old‖.`,
  async run(values, [path, target, ...rest], out) {
    if (path === undefined || target === undefined || rest.length > 0 || values.to === undefined) {
      throw new KinoraError("cli.bad-arguments", "give the file to read, the file to write, and --to", {
        hint: "kinora models convert model.safetensors model-Q4_K_M.gguf --to gguf:Q4_K_M",
      });
    }
    const started = Date.now();
    const request = { path, out: target, to: values.to, overwrite: values.overwrite };
    const result = await perform(out, "convert-model", request, ({ name, bytesDone, bytesTotal }) => {
      const share = Math.floor((bytesDone / bytesTotal) * 100);
      out.progress(`${share} % ${name}${timeLeft(started, bytesDone, bytesTotal)}`);
    });
    for (const note of result.notes) out.say(`${path}: ${note}`);
    out.answer(result, () => {
      const worst = [...result.tensors].sort((a, b) => b.error - a.error);
      const shown = values.names ? result.tensors : worst.slice(0, SHOWN);
      const lines = shown.map(
        ({ name, from, to, error, most }) =>
          `  ${name}: ${from} to ${to}, error ${error.toExponential(2)}, largest difference ${most.toExponential(2)}`,
      );
      const head = `${result.out}: ${result.label}, ${result.tensors.length} tensors, ${formatBytes(result.bytes)}`;
      return [head, values.names ? "errors:" : "largest errors (--names lists all):", ...lines].join("\n");
    });
    return 0;
  },
});
