// Whether a LoRA's adapters go on a model's parameters, from names and sizes alone. Not values: see read.ts and attach.ts.
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import { elementCount } from "../base/shape.ts";
import type { Shapes } from "../models/wan/weight-shapes.ts";
import type { AdapterPlace } from "./adapters/kind.ts";
import { moduleOf } from "./adapters/table.ts";

export interface LayerSize {
  readonly inputs: number;
  readonly outputs: number;
}

/** Layers by name, e.g. `blocks.0.self_attn.q`. */
export type Layers = ReadonlyMap<string, LayerSize>;

/** The shapes of parameters by name: a model's own, or of one in memory. */
export type ParameterShapes = ReadonlyMap<string, readonly number[]>;

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

/** Leading ones off and a kernel flattened into its inputs: what of a shape an adapter has to share. */
function essence(shape: readonly number[]): string {
  const start = shape.findIndex((size) => size !== 1);
  const [rows = 1, ...rest] = start < 0 ? [] : shape.slice(start);
  return `${rows},${elementCount(rest)}`;
}

export function fits(shapes: ParameterShapes, { parameter, shape }: AdapterPlace): boolean {
  const actual = shapes.get(parameter);
  return actual !== undefined && essence(actual) === essence(shape);
}

/** A weight's shape as people think of it: inputs → outputs; other parameters by their sizes. */
const sizeText = (shape: readonly number[]): string =>
  shape.length > 1 ? `${elementCount(shape.slice(1))} → ${shape[0]}` : `[${shape}]`;

function misfit(shapes: ParameterShapes, { parameter, shape }: AdapterPlace): string {
  const name = moduleOf({ parameter, shape });
  const actual = shapes.get(parameter);
  if (actual) return `${name} (${sizeText(shape)}; the layer is ${sizeText(actual)})`;
  const near = nearestName(parameter, shapes.keys());
  return `${name} (no such layer${near ? `; nearest ${moduleOf({ parameter: near, shape })}` : ""})`;
}

/** Throws `lora.unmatched`, under the `message` and `hint` of who knows more, with what does not fit. */
export function checkFit(
  shapes: ParameterShapes,
  places: readonly AdapterPlace[],
  { message, hint }: { message: string; hint: string },
): void {
  const wrong = places.filter((place) => !fits(shapes, place));
  if (wrong.length === 0) return;
  const listed = wrong.slice(0, LISTED).map((place) => misfit(shapes, place));
  const more = wrong.length > LISTED ? ` and ${wrong.length - LISTED} more` : "";
  throw new KinoraError("lora.unmatched", message, {
    actual: `${wrong.length} of ${places.length} modules do not fit: ${listed.join(", ")}${more}`,
    hint,
  });
}
