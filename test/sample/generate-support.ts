// Runs generations for the tests: a device, random tiny models, a cache folder of its own, and what came of each run.
import { existsSync, mkdirSync } from "node:fs";
import { afterAll, beforeAll, expect } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { HashCache } from "../../src/io/content-hash.ts";
import { writePng } from "../../src/io/image/write.ts";
import { vaeConfigs } from "../../src/models/wan/vae/config.ts";
import { vaeShapes } from "../../src/models/wan/weight-shapes.ts";
import type { GenerateEvent } from "../../src/sample/events.ts";
import { latentsPath, loadLatents } from "../../src/sample/latents-file.ts";
import { generate, type RunOptions } from "../../src/sample/pipeline.ts";
import { type GenerateOptions, type GenerateRequest, resolveRequest } from "../../src/sample/request.ts";
import { tinyParts, writeKinoraFolder } from "../support/checkpoint-layouts.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { writeSparse } from "../support/wan-files.ts";

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

/** Call it at the top of a test file: random tiny models, a picture, and whole generations with them. */
export async function tinyStudio() {
  const path = temporaryFolder();
  const [t2v, ti2v] = [path("tiny-t2v"), path("tiny-ti2v")];
  const picture = path("picture.png");
  const hashes = hashCache(path("cache"));
  const { device } = await openDevice("auto");
  beforeAll(async () => {
    await writeKinoraFolder(t2v, tinyParts("tiny-t2v"));
    await writeKinoraFolder(ti2v, tinyParts("tiny-ti2v"));
    const data = Uint8Array.from({ length: 90 * 30 * 3 }, (_, i) => (i * 7) % 251);
    await writePng(picture, { width: 90, height: 30, data });
  });
  afterAll(() => device[Symbol.dispose]());
  let films = 0;
  const film = (): string => path(`film-${films++}.mp4`);

  /** The published sizes, every weight zero: for what comes before the decoding. */
  const publishedVae = (): string => {
    const file = path("Wan2.1_VAE.safetensors");
    return existsSync(file) ? file : writeSparse(file, vaeShapes(vaeConfigs.vae21), "f32");
  };

  /** Runs to the end and checks that the device has given everything back. */
  const run = async (
    options: Partial<GenerateOptions>,
    more: { signal?: AbortSignal; resume?: boolean; preview?: boolean } = {},
    watch?: (event: GenerateEvent) => void,
  ): Promise<Run & { out: string }> => {
    const folder = options.task === "tiny-ti2v" ? ti2v : t2v;
    const asked = tinyOptions(folder, options.out ?? film(), options);
    const before = device.memory().live;
    const result = await runRequest(device, resolved(asked), { hashes, ...more }, watch);
    expect(device.memory().live).toBe(before);
    return { ...result, out: asked.out };
  };
  return { path, t2v, ti2v, picture, hashes, device, film, publishedVae, run };
}
