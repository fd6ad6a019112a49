// LoRA files as adapter values, whatever tool wrote them. Not names (key-formats.ts), not layers (attach.ts).
import { KinoraError } from "../base/errors.ts";
import { toFloat32 } from "../base/float-formats.ts";
import { openTensorSource } from "../io/tensor-source.ts";
import type { AdapterValues } from "./attach.ts";
import { alphaOfMetadata, type LoraFormat, type OtherAdapter, type ParsedLora, parseLoraNames } from "./key-formats.ts";

/** Named float tensors, from a file or from memory. */
export interface AdapterSource {
  names: Iterable<string>;
  shape(name: string): readonly number[];
  values(name: string): Float32Array;
  /** Of all modules whose file names none: α; the rank where absent. */
  alpha?: number | undefined;
  metadata?: Readonly<Record<string, string>> | undefined;
}

export interface LoraFile {
  formats: readonly LoraFormat[];
  adapters: AdapterValues[];
  metadata: Readonly<Record<string, string>>;
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
  const adapters = adaptersOf(parsed, {
    names: source.names,
    shape: (name) => source.info(name).shape,
    values: (name) => toFloat32(source.bytes(name), source.info(name).dtype),
    metadata: source.metadata,
  });
  return { formats: parsed.formats, adapters, metadata: { ...source.metadata } };
}

/** The adapters of a LoRA file alone. */
export const readLora = (path: string): AdapterValues[] => readLoraFile(path).adapters;

export function adaptersFrom(source: AdapterSource): AdapterValues[] {
  return adaptersOf(parseLoraNames(source.names), source);
}

function adaptersOf(parsed: ParsedLora, source: AdapterSource): AdapterValues[] {
  refuseOthers(parsed);
  return parsed.modules.map(({ module, down, up, alpha }) => {
    const [rank, inputs] = matrix(source, down);
    const [outputs, width] = matrix(source, up);
    if (rank !== width) {
      throw new KinoraError("lora.rank", `${module}: its two matrices have different ranks`, {
        expected: `[*, ${rank}]`,
        actual: `[${outputs}, ${width}]`,
      });
    }
    const scale = alpha === undefined ? undefined : source.values(alpha)[0]!;
    return {
      module,
      rank,
      inputs,
      outputs,
      alpha: scale ?? source.alpha ?? alphaOfMetadata(source.metadata ?? {}, rank) ?? rank,
      down: source.values(down),
      up: source.values(up),
    };
  });
}

/** [rows, columns]; convolution LoRAs of the patch embedding carry trailing ones. */
function matrix(source: AdapterSource, name: string): [number, number] {
  const shape = source.shape(name);
  const [rows, ...rest] = shape;
  if (rows === undefined || rest.length === 0 || rows === 0) {
    throw new KinoraError("lora.shape", `${name} is no matrix`, { actual: `[${shape}]` });
  }
  return [rows, rest.reduce((product, size) => product * size, 1)];
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
    });
  }
}
