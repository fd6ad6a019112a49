// npm run fuzz: readers of foreign bytes are given inputs changed at random, in child processes. Each must end in a coded
// error with a hint, or in success with something valid, in time and in little memory, with nothing outside touched.
//   npm run fuzz [-- --inputs 10000] [--seed N] [--only KIND,…] [--limit SECONDS] [--jobs 2]
//   npm run fuzz -- --only GGUF --seed N --number K     one input again
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { inParallel } from "../src/base/parallel.ts";
import { kinds } from "../test/fuzz/kinds.ts";
import type { Kind, Outcome } from "../test/fuzz/run.ts";
import type { Message, Order } from "./fuzz/child.ts";

const { values: options } = parseArgs({
  options: {
    inputs: { type: "string", default: "10000" },
    seed: { type: "string", default: String(Date.now() % 2 ** 31) },
    only: { type: "string" },
    number: { type: "string" },
    limit: { type: "string", default: "60" },
    jobs: { type: "string", default: "2" },
  },
});
const seed = Number(options.seed);
const limit = Number(options.limit) * 1000;

/** Seconds to prepare what inputs are copies of: on a busy machine a small training run takes long. */
const preparing = 300_000;

const end = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve();
    else child.once("exit", () => resolve());
  });

/** Inputs `from` to before `to` in one process; the outcomes up to where it ended. */
async function inOneProcess(order: Order): Promise<Outcome[]> {
  const child = fork(join(import.meta.dirname, "fuzz/child.ts"), {
    execArgv: ["--import", "tsx", "--max-old-space-size=1024", "--no-warnings"],
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  let complaints = "";
  child.stderr!.setEncoding("utf8").on("data", (part: string) => {
    complaints = (complaints + part).slice(-2000);
  });
  const outcomes: Outcome[] = [];
  let [ready, at] = [false, order.from];
  let timer: NodeJS.Timeout | undefined;
  let late = false;
  const within = (time: number) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      late = true;
      child.kill("SIGKILL");
    }, time);
  };
  child.on("message", (message: Message) => {
    if ("ready" in message) ready = true;
    else if ("begun" in message) at = message.begun;
    else outcomes.push(message.outcome);
    within(limit);
  });
  within(preparing);
  child.send(order);
  await end(child);
  clearTimeout(timer);
  if (!ready) throw new Error(`${order.kind} could not be prepared: ${complaints}`);
  if (outcomes.length < order.to - order.from) {
    const how = late
      ? `no end within ${options.limit} s`
      : `the process ended (${child.signalCode ?? child.exitCode}): ${complaints}`;
    outcomes.push({ number: at, end: "failed", why: how });
  }
  return outcomes;
}

/** All inputs of a kind; after one that ended its process, a new process goes on behind it. */
async function runKind({ name }: Kind, from: number, to: number): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (let at = from; at < to; ) {
    const some = await inOneProcess({ kind: name, seed, from: at, to });
    outcomes.push(...some);
    at = some.at(-1)!.number + 1;
  }
  return outcomes;
}

const wanted = options.only?.split(",");
const chosen = kinds.filter(({ name }) => !wanted || wanted.includes(name));
if (chosen.length === 0) throw new Error(`--only takes ${kinds.map(({ name }) => name).join(", ")}`);
const shares = chosen.reduce((sum, { share }) => sum + share, 0);
console.log(`seed ${seed}`);
const column = (text: string | number, width = 10) => String(text).padStart(width);
console.log(
  `${"kind".padEnd(34)}${["inputs", "accepted", "refused", "failed"].map((title) => column(title)).join("")}`,
);

let [inputs, failures] = [0, 0];
await inParallel(chosen, Number(options.jobs), async (kind) => {
  const count = Math.max(1, Math.round((kind.share / shares) * Number(options.inputs)));
  const from = options.number === undefined ? 0 : Number(options.number);
  const outcomes = await runKind(kind, from, options.number === undefined ? count : from + 1);
  const of = (end: Outcome["end"]) => outcomes.filter((outcome) => outcome.end === end);
  const row = [outcomes.length, of("accepted").length, of("refused").length, of("failed").length];
  console.log(`${kind.name.padEnd(34)}${row.map((count) => column(count)).join("")}`);
  inputs += outcomes.length;
  failures += of("failed").length;
  // One of each sort: the rest is the same mistake, as a rule.
  const sorts = new Map<string, Outcome[]>();
  for (const outcome of of("failed")) {
    const sort = outcome.why!.replace(/\d+/g, "0").slice(0, 90);
    sorts.set(sort, [...(sorts.get(sort) ?? []), outcome]);
  }
  for (const [first, ...more] of sorts.values())
    console.log(`  number ${first!.number}${more.length > 0 ? ` and ${more.length} like it` : ""}: ${first!.why}`);
  if (options.number !== undefined) console.log(`  ${outcomes[0]!.end}: ${outcomes[0]!.why ?? ""}`);
});
console.log(`${"all".padEnd(34)}${column(inputs)}, ${failures} failed`);
if (failures > 0) console.log("one again: npm run fuzz -- --only KIND --seed SEED --number NUMBER");
process.exitCode = failures > 0 ? 1 : 0;
