// Runs conformance cases on kernels with planted faults, which may end the process: one line of JSON a fault on stdout.
// The faults come as JSON in the first argument.
import { register } from "node:module";
import { createCudaDevice } from "../../../../src/device/cuda/cuda-device.ts";

export interface Planted {
  name: string;
  cases: string;
  driver: string;
  cublasLt: string;
  images: string;
  cacheFolder: string;
}

export interface Outcome {
  name: string;
  /** How many cases ran, and why one failed. */
  ran: number;
  failure?: string;
}

const hook = `export const resolve = (name, context, next) => next(name === "vitest" ? ${JSON.stringify(new URL("expect.ts", import.meta.url).href)} : name, context);`;
register(`data:text/javascript,${encodeURIComponent(hook)}`);
const [{ Bench }, { attentionCases }, { normCases }, { elementwiseCases }, { movementCases }, { convolutionCases }] =
  await Promise.all([
    import("../../conformance/bench.ts"),
    import("../../conformance/attention-cases.ts"),
    import("../../conformance/norm-cases.ts"),
    import("../../conformance/elementwise-cases.ts"),
    import("../../conformance/movement-cases.ts"),
    import("../../conformance/convolution-cases.ts"),
  ]);
const all = [...attentionCases, ...normCases, ...elementwiseCases, ...movementCases, ...convolutionCases];

for (const { name, cases, ...libraries } of JSON.parse(process.argv[2]!) as Planted[]) {
  const outcome: Outcome = { name, ran: 0 };
  const device = createCudaDevice(libraries);
  for (const one of all.filter((candidate) => candidate.name.startsWith(cases))) {
    try {
      const bench = new Bench(device, new Map());
      await one.run(bench);
      await bench.close();
      outcome.ran++;
    } catch (error) {
      outcome.failure = `${one.name}: ${(error as Error).message}`;
      break;
    }
  }
  console.log(JSON.stringify(outcome));
}
