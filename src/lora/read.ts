// LoRA files as adapter values, whatever tool wrote them. Not names (key-formats.ts), not layers (attach.ts).
import { KinoraError } from "../base/errors.ts";
import { toFloat32 } from "../base/float-formats.ts";
import { openTensorSource, type TensorSource } from "../io/tensor-source.ts";
import type { AdapterValues } from "./attach.ts";
import { type LoraFormat, type OtherAdapter, type ParsedLora, parseLoraNames } from "./key-formats.ts";
import { type AdapterTensors, sizesOf } from "./module-sizes.ts";

export interface AdapterSource extends AdapterTensors {
  names: Iterable<string>;
}

export interface LoraFile {
  formats: readonly LoraFormat[];
  adapters: AdapterValues[];
  metadata: Readonly<Record<string, string>>;
}

/** The tensors of an opened file, widened as they are asked for. */
export function tensorsOf(source: TensorSource): AdapterTensors {
  return {
    shape: (name) => source.info(name).shape,
    values: (name) => toFloat32(source.bytes(name), source.info(name).dtype),
    metadata: source.metadata,
  };
}

/** Reads a LoRA file. Throws `lora.*` naming every tensor that is not understood: nothing is skipped in silence. */
export function readLoraFile(path: string): LoraFile {
  using source = openTensorSource(path);
  const parsed = parseLoraNames(source.names);
  if (parsed.modules.length === 0 && parsed.others.length === 0) {
    throw new KinoraError("lora.not-a-lora", `${path} holds no LoRA for a Wan transformer`, {
      expected: "tensors such as diffusion_model.blocks.0.self_attn.q.lora_A.weight",
      actual: source.names.slice(0, 3).join(", "),
      hint: "kinora models inspect FILE tells what it is",
    });
  }
  const adapters = adaptersOf(parsed, tensorsOf(source));
  return { formats: parsed.formats, adapters, metadata: { ...source.metadata } };
}

/** The adapters of a LoRA file alone. */
export const readLora = (path: string): AdapterValues[] => readLoraFile(path).adapters;

export function adaptersFrom(source: AdapterSource): AdapterValues[] {
  return adaptersOf(parseLoraNames(source.names), source);
}

function adaptersOf(parsed: ParsedLora, source: AdapterTensors): AdapterValues[] {
  refuseOthers(parsed);
  return parsed.modules.map((entry) => {
    const { module, down, up } = entry;
    const sizes = sizesOf(entry, source);
    if (!sizes) {
      throw new KinoraError("lora.shape", `the matrices of ${module} do not go together`, {
        expected: "[rank, inputs] and [outputs, rank]",
        actual: `[${source.shape(down)}] and [${source.shape(up)}]`,
        hint: "the file is damaged or was merged wrongly: take it again from where it came",
      });
    }
    const { alphaValue, ...rest } = sizes;
    return { module, ...rest, alpha: alphaValue, down: source.values(down), up: source.values(up) };
  });
}

const otherHelp: Partial<Record<OtherAdapter, string>> = {
  diff: "it changes weights outright; merge it with the tool that made it",
  bias: "it trains biases, which are not read yet",
};

function refuseOthers({ others, unmatched }: ParsedLora): void {
  if (others.length > 0) {
    const kinds = [...new Set(others.map(({ kind }) => kind))];
    throw new KinoraError("lora.unsupported", `the file holds ${kinds.join(", ")} beside or instead of plain LoRA`, {
      actual: `${others.length} tensors, e.g. ${others[0]!.name}`,
      hint: otherHelp[kinds[0]!] ?? "only plain LoRA is read",
    });
  }
  if (unmatched.length > 0) {
    const list = unmatched.slice(0, 5).map(({ name, why }) => `${name} (${why})`);
    throw new KinoraError("lora.unmatched", `${unmatched.length} tensors of the LoRA are not understood`, {
      actual: list.join("; ") + (unmatched.length > 5 ? "; …" : ""),
      hint: "nothing is left out in silence; kinora models inspect FILE says which model the file is for",
    });
  }
}
