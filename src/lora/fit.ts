// Whether a LoRA's modules go on a model's layers, from names and sizes alone. Not values: see read.ts and attach.ts.
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import { elementCount } from "../base/shape.ts";
import type { Shapes } from "../models/wan/weight-shapes.ts";

export interface LayerSize {
  readonly inputs: number;
  readonly outputs: number;
}

/** Layers by name, e.g. `blocks.0.self_attn.q`. */
export type Layers = ReadonlyMap<string, LayerSize>;

/** A module of a LoRA: what it goes on, and the widths it was made for. */
export interface SizedModule extends LayerSize {
  readonly module: string;
}

/** The most names an error lists one by one. */
const LISTED = 10;

/** The layers behind a network's weights: every matrix, and every convolution as a matrix. */
export function layersOf(shapes: Shapes): Layers {
  const layers = new Map<string, LayerSize>();
  for (const [name, shape] of shapes) {
    if (name.endsWith(".weight") && shape.length > 1)
      layers.set(name.slice(0, -".weight".length), { inputs: elementCount(shape.slice(1)), outputs: shape[0]! });
  }
  return layers;
}

export function fits(layers: Layers, { module, inputs, outputs }: SizedModule): boolean {
  const layer = layers.get(module);
  return layer !== undefined && layer.inputs === inputs && layer.outputs === outputs;
}

function misfit(layers: Layers, { module, inputs, outputs }: SizedModule): string {
  const layer = layers.get(module);
  if (layer) return `${module} (${inputs} → ${outputs}; the layer is ${layer.inputs} → ${layer.outputs})`;
  const near = nearestName(module, layers.keys());
  return `${module} (no such layer${near ? `; nearest ${near}` : ""})`;
}

/** Throws `lora.unmatched`, under the `message` and `hint` of who knows more, with the modules that do not fit. */
export function checkFit(
  layers: Layers,
  modules: readonly SizedModule[],
  { message, hint }: { message: string; hint: string },
): void {
  const wrong = modules.filter((module) => !fits(layers, module));
  if (wrong.length === 0) return;
  const listed = wrong.slice(0, LISTED).map((module) => misfit(layers, module));
  const more = wrong.length > LISTED ? ` and ${wrong.length - LISTED} more` : "";
  throw new KinoraError("lora.unmatched", message, {
    actual: `${wrong.length} of ${modules.length} modules do not fit: ${listed.join(", ")}${more}`,
    hint,
  });
}
