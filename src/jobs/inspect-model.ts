// Says what weight files and LoRAs are, as plain data, and writes LoRAs under other tools' names.
import { existsSync } from "node:fs";
import { basename, dirname, extname, join, relative, resolve } from "node:path";
import type { z } from "zod";
import { isKinoraError, KinoraError } from "../base/errors.ts";
import { sweepPartials } from "../io/atomic.ts";
import { fileOrFolder } from "../io/files.ts";
import { findModels, openTensorSource, type TensorSource } from "../io/tensor-source.ts";
import { type NonFinite, scanValues } from "../io/value-scan.ts";
import { convertLora } from "../lora/convert.ts";
import { describeLora } from "../lora/describe.ts";
import { inspectWeights, type NetworkReport } from "../lora/inspect.ts";
import { keyFormats } from "../lora/key-formats.ts";
import { ownJson } from "../lora/own-files.ts";
import type { RecognizedLora } from "../lora/recognize.ts";
import { convertModel, parseTarget } from "../models/wan/convert.ts";
import {
  convertLoraContract,
  convertModelContract,
  type InspectedFile,
  inspectLoraContract,
  inspectModelContract,
} from "../protocol/jobs/inspect-model.ts";
import { errorData } from "./errors.ts";
import { type EventIn, job, quickJob, type Work } from "./job.ts";

type Contract = typeof inspectModelContract;

const FULL_SCAN_BYTES = 2 ** 31;

export const inspectModelJob = job(inspectModelContract, async function* (request, { signal }): Work<Contract> {
  const { path, scan, names } = request;
  const own = ownJson(path);
  if (own) return { files: [{ path, name: path, own }] };
  const folder = fileOrFolder(path).kind === "folder";
  const found = folder ? findModels(path) : [path];
  if (found.length === 0) {
    throw new KinoraError("io.no-weights", `${path} contains no weights`, {
      expected: ".safetensors or .pth files, or an index of shards",
      hint: "give the file or folder that has them",
    });
  }
  const files: z.input<Contract["result"]>["files"] = [];
  for (const file of found) {
    signal.throwIfAborted();
    const name = folder ? relative(path, file) : file;
    try {
      using source = openTensorSource(file);
      files.push({ ...(yield* inspect(source, scan, signal)), name, ...(names ? { names: tensorsOf(source) } : {}) });
    } catch (error) {
      // One spoiled file among several must not hide what the others are.
      if (!isKinoraError(error) || !folder) throw error;
      files.push({ path: file, name, error: errorData(error) });
    }
  }
  return { files };
});

const tensorsOf = (source: TensorSource): InspectedFile["names"] =>
  source.names.map((name) => {
    const { dtype, shape } = source.info(name);
    return { name, dtype, shape: [...shape] };
  });

/** Milliseconds between two reports. */
const REPORT_MS = 200;

async function* inspect(
  source: TensorSource,
  asked: InspectedFile["scan"] | undefined,
  signal: AbortSignal,
): AsyncGenerator<EventIn<Contract>, Omit<InspectedFile, "name">> {
  const { networks, lora, dtypes, ...report } = inspectWeights(source);
  const scan = asked ?? (report.bytes <= FULL_SCAN_BYTES ? "all" : "sample");
  return {
    ...report,
    dtypes: Object.fromEntries(dtypes),
    networks: networks.map(networkData),
    ...(lora ? { lora: loraData(lora) } : {}),
    scan,
    nonFinite: scan === "none" ? [] : yield* scanned(source, scan === "sample", signal),
  };
}

async function* scanned(
  source: TensorSource,
  sample: boolean,
  signal: AbortSignal,
): AsyncGenerator<EventIn<Contract>, NonFinite[]> {
  const events = scanValues(source, sample);
  let last = performance.now();
  for (;;) {
    const { done, value } = events.next();
    if (done) return value;
    if (performance.now() - last < REPORT_MS) continue;
    last = performance.now();
    signal.throwIfAborted();
    yield { type: "scanning", path: source.path, ...value };
  }
}

function networkData({ recognized, quantized, ignored, ...network }: NetworkReport): InspectedFile["networks"][number] {
  const { expected: _expected, ...known } = recognized;
  return {
    ...known,
    config: JSON.parse(JSON.stringify(known.config)) as Record<string, never>,
    ...network,
    quantized: Object.fromEntries(quantized),
    ignored: Object.fromEntries(ignored),
  };
}

function loraData(lora: RecognizedLora): NonNullable<InspectedFile["lora"]> {
  return {
    ...lora,
    modules: lora.modules.map(({ module, kind, format, rank, alpha, expert, tensors }) => ({
      ...{ module, kind, format, rank, alpha, expert, tensors },
    })),
    kinds: Object.fromEntries(lora.kinds),
    others: Object.fromEntries(lora.others),
  };
}

export const inspectLoraJob = quickJob(inspectLoraContract, ({ path }) => {
  const { recognized, groups, ...others } = describeLora(path);
  return {
    ...others,
    lora: loraData(recognized),
    groups: groups.map((group) => ({ ...group, strength: Number.isFinite(group.strength) ? group.strength : null })),
  };
});

export const convertLoraJob = quickJob(convertLoraContract, async ({ path, to, out, dtype, expert, ...request }) => {
  const { overwrite = false, exclude } = request;
  const target = out ?? join(dirname(path), `${basename(path, extname(path))}_${to}.safetensors`);
  const converted = await convertLora(path, target, {
    format: keyFormats[to],
    overwrite,
    ...(exclude ? { exclude } : {}),
    ...(expert ? { expert } : {}),
    ...(dtype ? { dtype } : {}),
  });
  return { path, out: target, ...converted };
});

export const convertModelJob = job(convertModelContract, async function* (request, { signal }): Work<
  typeof convertModelContract
> {
  const { path, out, overwrite } = request;
  const target = parseTarget(request.to);
  if (resolve(path) === resolve(out) || (existsSync(out) && !overwrite)) {
    throw new KinoraError("convert.exists", `${out} already exists`, {
      hint: resolve(path) === resolve(out) ? "choose another file to write" : "choose another file, or `overwrite` it",
    });
  }
  await sweepPartials(dirname(out), "abandoned");
  return { out, ...(yield* convertModel(path, out, target, signal)) };
});
