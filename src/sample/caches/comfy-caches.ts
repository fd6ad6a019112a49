// ComfyUI's EasyCache and LazyCache nodes, which differ from the paper's: the first pass of ComfyUI, the negative one,
// decides for all; only the middle of the run is looked at, and changes on a coarse grid. LazyCache does the same with
// the guided clip. https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy_extras/nodes_easycache.py
import { z } from "zod";
import { type Place, percentSigma, type RunMemory } from "../guidance/guidance.ts";
import { CACHE_MEMORY, defineCache, keptOf, meanChange, meanSize, numberIn, passName, remember } from "./cache.ts";

const options = z.strictObject({
  threshold: z.number().min(0).max(100).default(0.2),
  start: z.number().min(0).max(1).default(0.15),
  end: z.number().min(0).max(1).default(0.95),
  /** Of the grid on which changes are looked at: every nth row and column. */
  subsample: z.int().min(1).max(64).default(8),
});

type Settings = z.output<typeof options>;

const before = ({ start }: Settings, { sigma, shift }: Place): boolean => sigma > percentSigma(start, shift);
const after = ({ end }: Settings, { sigma, shift }: Place): boolean => sigma <= percentSigma(end, shift);

/** Every nth row and column. */
function coarse(values: Float32Array, [, , height, width]: Place["shape"], stride: number): Float32Array {
  if (stride === 1) return values;
  const kept: number[] = [];
  for (let row = 0; row < values.length / width; row++) {
    if ((row % height) % stride !== 0) continue;
    for (let column = 0; column < width; column += stride) kept.push(values[row * width + column]!);
  }
  return Float32Array.from(kept);
}

/** The change foretold, added to what has added up; undefined where there is nothing to go by yet. */
function foretold(change: number | undefined, memory: RunMemory, key: string): number | undefined {
  const [rate, size] = [numberIn(memory, `rate.${key}`), numberIn(memory, `size.${key}`)];
  if (change === undefined || rate === undefined || size === undefined) return undefined;
  return (numberIn(memory, "changes") ?? 0) + (rate * change) / size;
}

/** How far the model's input has moved since `key` was last computed. */
function inputChange(shown: Float32Array, memory: RunMemory, key: string): number | undefined {
  const last = memory.get(`${CACHE_MEMORY}shown.${key}`);
  return last && meanChange(shown, last);
}

/** From an output that was computed: how fast it changes with the input, and what to compare the next with. */
function learnFrom(
  {
    shown,
    output,
    whole,
    change,
  }: { shown: Float32Array; output: Float32Array; whole: Float32Array; change: number | undefined },
  memory: RunMemory,
  key: string,
): void {
  const last = memory.get(`${CACHE_MEMORY}output.${key}`);
  if (last && change !== undefined) remember(memory, `rate.${key}`, meanChange(output, last) / change);
  remember(memory, `shown.${key}`, shown);
  remember(memory, `output.${key}`, output);
  remember(memory, `size.${key}`, meanSize(whole));
}

export const comfyEasyCache = defineCache({
  name: "comfy-easycache",
  help: "ComfyUI's EasyCache node",
  options,
  create(settings) {
    const { threshold, subsample } = settings;
    return {
      keeps: "pass",
      decide({ place, passes }, memory) {
        const compute = passes.map(() => ({ skip: false }));
        if (after(settings, place) || before(settings, place)) return compute;
        const first = passes.find(({ text }) => text === "negative") ?? passes[0]!;
        const shown = coarse(place.sample, place.shape, subsample);
        const value = foretold(inputChange(shown, memory, passName(first)), memory, passName(first));
        if (value === undefined) return compute;
        const skip = value < threshold && passes.every((pass) => memory.has(keptOf(pass)));
        remember(memory, "changes", skip ? value : 0);
        return passes.map(() => ({ skip, value }));
      },
      learn({ place, passes }, outputs, memory) {
        if (after(settings, place) || before(settings, place)) return;
        const index = Math.max(
          0,
          passes.findIndex(({ text }) => text === "negative"),
        );
        const whole = outputs[index];
        if (!whole) return;
        const key = passName(passes[index]!);
        const shown = coarse(place.sample, place.shape, subsample);
        const output = coarse(whole, place.shape, subsample);
        learnFrom({ shown, output, whole, change: inputChange(shown, memory, key) }, memory, key);
      },
    };
  },
});

export const comfyLazyCache = defineCache({
  name: "comfy-lazycache",
  help: "ComfyUI's LazyCache node: on the guided clip",
  options,
  create(settings) {
    const { threshold, subsample } = settings;
    const key = "guided";
    return {
      keeps: "guided",
      decide({ place }, memory) {
        if (after(settings, place) || before(settings, place)) return [{ skip: false }];
        const value = foretold(inputChange(coarse(place.sample, place.shape, subsample), memory, key), memory, key);
        if (value === undefined) return [{ skip: false }];
        const skip = value < threshold && memory.has(`${CACHE_MEMORY}kept.${key}`);
        remember(memory, "changes", skip ? value : 0);
        return [{ skip, value }];
      },
      learn({ place }, [whole], memory) {
        if (after(settings, place) || !whole) return;
        const shown = coarse(place.sample, place.shape, subsample);
        const output = coarse(whole, place.shape, subsample);
        const change = before(settings, place) ? undefined : inputChange(shown, memory, key);
        learnFrom({ shown, output, whole, change }, memory, key);
      },
    };
  },
});
