// Runs generations for the tests: a device, a cache folder of its own, and what came of each run.
import { mkdirSync } from "node:fs";
import type { Device } from "../../src/device/device.ts";
import { HashCache } from "../../src/io/content-hash.ts";
import type { GenerateEvent } from "../../src/protocol/generate-events.ts";
import { latentsPath, loadLatents } from "../../src/sample/latents-file.ts";
import { generate, type RunOptions } from "../../src/sample/pipeline.ts";
import { type GenerateOptions, type GenerateRequest, resolveRequest } from "../../src/sample/request.ts";

export type EventOf<T extends GenerateEvent["type"]> = Extract<GenerateEvent, { type: T }>;

export interface Run {
  events: GenerateEvent[];
  last: GenerateEvent;
  of<T extends GenerateEvent["type"]>(type: T): EventOf<T>[];
  /** From the file beside the film. */
  latents(): Float32Array;
}

export function hashCache(folder: string): HashCache {
  mkdirSync(folder, { recursive: true });
  return new HashCache(folder);
}

export async function runRequest(
  device: Device,
  request: GenerateRequest,
  options: RunOptions,
  watch: (event: GenerateEvent) => void = () => {},
): Promise<Run> {
  const events: GenerateEvent[] = [];
  for await (const event of generate(request, device, options)) {
    events.push(event);
    watch(event);
  }
  const of = <T extends GenerateEvent["type"]>(type: T) =>
    events.filter((event): event is EventOf<T> => event.type === type);
  return { events, last: events.at(-1)!, of, latents: () => loadLatents(latentsPath(request.out)).latents };
}

/** Three steps, latents kept. */
export function tinyOptions(folder: string, out: string, options: Partial<GenerateOptions> = {}): GenerateOptions {
  return {
    task: "tiny-t2v",
    prompt: "a red circle moves to the right",
    negative: "a blue square",
    steps: 3,
    seed: 5n,
    size: { width: 32, height: 32 },
    frames: 5,
    keepLatents: true,
    files: { folder },
    out,
    ...options,
  };
}

export const resolved = (options: GenerateOptions): GenerateRequest => resolveRequest(options).request;
