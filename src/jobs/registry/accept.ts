// Acceptance, phase 1: films over strengths and prompts beside the base model's, from the same seeds; what is technically
// wrong with them; a verdict, a report and an event in the log. Each film that is done is kept: a second run resumes.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { KinoraError } from "../../base/errors.ts";
import { portableName } from "../../base/platform.ts";
import { median } from "../../dataset/prepare/measures/measure.ts";
import { makeFolder, writeFileAtomic } from "../../io/atomic.ts";
import { readBack } from "../../io/read-back.ts";
import { type FaultMeasures, faultNames, faultsOf, measureFaults } from "../../judge/film-faults.ts";
import { type AcceptanceCell, acceptContract } from "../../protocol/jobs/accept.ts";
import { formatAddress, parseReference } from "../../registry/address.ts";
import { latentsPath } from "../../sample/latents-file.ts";
import { readPromptFile, type SamplePrompt } from "../../train/config/prompt-file.ts";
import { errorData, JobStopped } from "../errors.ts";
import { generateJob } from "../generate.ts";
import type { AskedLora, GenerateRequest } from "../generate-options.ts";
import { type JobContext, job, type Work } from "../job.ts";
import { acceptancePage } from "./accept-page.ts";
import { openStore } from "./open.ts";
import { settleLoras } from "./use.ts";

type Request = z.output<typeof acceptContract.request>;

const STRENGTHS = [0.6, 0.8, 1];
/** Films in all, the base's among them. */
const OUTPUTS = 20;
/** How much worse than the base a version may be: faulty films of all, time and memory by their medians. */
const most = { faulty: 0.1, time: 2, peak: 1.5 };

/** A film to be made. */
interface Planned {
  name: string;
  prompt: SamplePrompt;
  seed: bigint;
  strength: number | undefined;
  /** Of all that decides the film and its time. */
  key: string;
}

const keptSchema = z.object({
  key: z.string(),
  /** Absent where the film was not made in one go. */
  seconds: z.number().optional(),
  peakBytes: z.number(),
  measures: z.record(z.enum(faultNames), z.number()),
});

export const acceptJob = job(acceptContract, async function* (request, context): Work<typeof acceptContract> {
  const { signal, env } = context;
  const { registry } = await openStore(request.store, env);
  const reference = parseReference(request.reference);
  const { address, version, manifest } = await registry.resolve(reference);
  if (reference.which !== version) throw needsVersion(request.reference);
  const model = request.model ?? manifest.model;
  if (model === undefined) {
    throw new KinoraError("accept.no-model", `${request.reference} does not say which model it is for`, {
      hint: "give `model`",
    });
  }
  const { prompts, notes } = await readPromptFile(request.prompts);
  if (prompts.length === 0)
    throw new KinoraError("accept.no-prompts", `${request.prompts} has no prompts`, { hint: "one per line" });
  for (const text of notes) yield { type: "note", text };
  const out = request.out ?? `accept-${portableName(address.name)}-${version}`;
  await makeFolder(out);
  const asked: GenerateRequest = { loras: [{ path: `registry:${request.reference}`, strength: 1 }], seed: 0 };
  const { request: settled } = await settleLoras({ ...asked, store: request.store }, context, async () => undefined);
  const loras = settled.loras as AskedLora[];
  const cells: AcceptanceCell[] = [];
  const planned = plan(request, model, manifest.files.map(({ sha256 }) => sha256).join(), prompts);
  const base = new Map<string, FaultMeasures>();
  for (const cell of planned) {
    signal.throwIfAborted();
    const done = await perform(cell, { ...request, model }, out, loras, context);
    const row = `${cell.prompt.prompt}\n${cell.seed}`;
    if (cell.strength === undefined && done.measures) base.set(row, done.measures as FaultMeasures);
    if (done.measures) {
      const counterpart = cell.strength === undefined ? undefined : base.get(row);
      done.faults.push(...faultsOf(done.measures as FaultMeasures, counterpart));
    }
    cells.push(done);
    yield { type: "cell", done: cells.length, of: planned.length, cell: done };
  }
  const judged = verdictOf(cells);
  const title = `${formatAddress(address)}@${version}`;
  const html = await acceptancePage(title, out, cells, judged);
  const report = join(out, "report.html");
  await writeFileAtomic(report, html);
  const { verdict, time, peak } = judged;
  await registry.recordTest(address, {
    ...{ version, phase: 1, verdict, report: new TextEncoder().encode(html) },
    scores: {
      "faulty films": cells.filter(({ strength, faults }) => strength !== undefined && faults.length > 0).length,
      films: cells.filter(({ strength }) => strength !== undefined).length,
      ...(time === undefined ? {} : { "time of base": time }),
      ...(peak === undefined ? {} : { "peak of base": peak }),
    },
  });
  return { address: formatAddress(address), version, phase: 1, ...judged, cells, report };
});

const needsVersion = (text: string) =>
  new KinoraError("accept.no-version", "an acceptance test needs a version", {
    expected: "ADDRESS@vN",
    actual: text,
    hint: "e.g. styles/acme/neon@v2",
  });

/** Row by row: the base, then each strength; rows of more seeds where there are few prompts. */
function plan(request: Request, model: string, files: string, prompts: readonly SamplePrompt[]): Planned[] {
  const strengths = [undefined, ...(request.strengths ?? STRENGTHS)];
  const rows = Math.max(1, Math.floor(OUTPUTS / strengths.length));
  const { steps, size, frames, device, checkpoint } = request;
  return Array.from({ length: rows }, (_, row) => row).flatMap((row) => {
    const prompt = prompts[row % prompts.length]!;
    const seed = (prompt.seed ?? 1n) + BigInt(Math.floor(row / prompts.length));
    return strengths.map((strength): Planned => {
      const decisive = { model, steps, size, frames, device, checkpoint, strength, seed: String(seed) };
      const of = { ...decisive, prompt: { ...prompt, seed: undefined }, files: strength === undefined ? "" : files };
      const key = createHash("sha256").update(JSON.stringify(of)).digest("hex");
      return { name: `${row + 1}-${strength ?? "base"}`, prompt, seed, strength, key };
    });
  });
}

/** Makes a film and measures it, or takes what an earlier run left. */
async function perform(
  { name, prompt: asked, seed, strength, key }: Planned,
  request: Request & { model: string },
  out: string,
  loras: readonly AskedLora[],
  context: Pick<JobContext, "signal" | "cacheFolder" | "env">,
): Promise<AcceptanceCell> {
  const film = `${name}.mp4`;
  const note = join(out, `${name}.json`);
  const { prompt, width, height } = asked;
  const cell = { prompt, seed: String(seed), ...(strength === undefined ? {} : { strength }) };
  const kept = await readBack(note, keptSchema);
  if (kept.state === "read" && kept.value.key === key && existsSync(join(out, film))) {
    const { key: _key, ...found } = kept.value;
    return { ...cell, film, ...found, faults: [] };
  }
  const resume = existsSync(latentsPath(join(out, film)));
  const size = request.size ?? (width && height ? { width, height } : undefined);
  const options: GenerateRequest = {
    model: request.model,
    ...{ prompt, negativePrompt: asked.negative, seed: String(seed), size, image: asked.image },
    ...{ frames: request.frames ?? asked.frames, steps: request.steps ?? asked.steps },
    ...{ sampler: asked.sampler, guidanceScale: asked.guidance, flowShift: asked.shift },
    ...{ checkpoint: request.checkpoint, device: request.device },
    loras: strength === undefined ? [] : loras.map((lora) => ({ ...lora, strength })),
    out: join(out, film),
    ...(resume ? { resume } : {}),
  };
  try {
    const work = generateJob.run(options, { ...context, emit: () => {} });
    let stepped = false;
    let made = await work.next();
    for (; !made.done; made = await work.next()) stepped ||= made.value.type === "step";
    const { seconds, peakBytes } = made.value.video;
    const measures = await measureFaults(join(out, film));
    const found = { ...(stepped && !resume ? { seconds } : {}), peakBytes, measures };
    await writeFileAtomic(note, `${JSON.stringify({ key, ...found })}\n`);
    return { ...cell, film, ...found, faults: [] };
  } catch (error) {
    if (error instanceof JobStopped || context.signal.aborted) throw error;
    return { ...cell, faults: ["error"], error: errorData(error).code };
  }
}

export interface Judged {
  verdict: "passed" | "failed";
  reasons: string[];
  time?: number;
  peak?: number;
}

/** An error, a black or a frozen film fails; of other faults a tenth of the films may have some. */
export function verdictOf(cells: readonly AcceptanceCell[]): Judged {
  const own = cells.filter(({ strength }) => strength !== undefined);
  const reasons: string[] = [];
  const count = (name: string) => own.filter(({ faults }) => faults.includes(name)).length;
  for (const name of ["error", "black", "frozen"]) {
    if (count(name) > 0) reasons.push(`${count(name)} of ${own.length} films: ${name}`);
  }
  if (cells.some(({ strength, error }) => strength === undefined && error))
    reasons.push("the base model failed as well: nothing can be compared");
  const faulty = own.filter(({ faults }) => faults.length > 0).length;
  if (reasons.length === 0 && faulty > most.faulty * own.length) {
    const names = [...new Set(own.flatMap(({ faults }) => faults))];
    reasons.push(
      `${faulty} of ${own.length} films have faults (${names.join(", ")}); at most ${100 * most.faulty} % may have any`,
    );
  }
  const time = ratio(cells, "seconds");
  const peak = ratio(cells, "peakBytes");
  if (time !== undefined && time > most.time)
    reasons.push(`it takes ${time.toFixed(2)} times the base's time; ${most.time} is the limit`);
  if (peak !== undefined && peak > most.peak)
    reasons.push(`it takes ${peak.toFixed(2)} times the base's memory; ${most.peak} is the limit`);
  return {
    verdict: reasons.length === 0 ? "passed" : "failed",
    reasons,
    ...(time === undefined ? {} : { time }),
    ...(peak === undefined ? {} : { peak }),
  };
}

function ratio(cells: readonly AcceptanceCell[], name: "seconds" | "peakBytes"): number | undefined {
  const middle = (base: boolean) =>
    median(cells.flatMap((cell) => ((cell.strength === undefined) === base ? (cell[name] ?? []) : [])));
  const [base, own] = [middle(true), middle(false)];
  return base && own ? own / base : undefined;
}
