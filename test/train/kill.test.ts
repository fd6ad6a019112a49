// SIGKILL at any moment: the run that goes on leaves the same bits as the unbroken one. KINORA_KILLS sets how many kills.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { clips } from "../dataset/dataset-files.ts";
import { draws } from "../support/drawn-weights.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { narrowSettings, outcome, trainAll, writeNarrowCheckpoint } from "../support/training-run.ts";

const path = temporaryFolder();
const folder = path("run");
const script = fileURLToPath(new URL("killed-run.ts", import.meta.url));
const tsx = fileURLToPath(import.meta.resolve("tsx"));
const kills = Number(process.env.KINORA_KILLS ?? 30);
const files = ["style_high_noise.safetensors", "style_low_noise.safetensors"];
/** Enough steps that kills fall into all parts of a run. */
const more = {
  steps: 24,
  save: { every_steps: 6, keep_last: 2 },
  validation: { hold_out: 1, every_steps: 8, sigmas: 2 },
};

beforeAll(async () => {
  await writeNarrowCheckpoint(folder);
  await clips(join(folder, "clips"), 4, { frames: 5, width: 32, height: 32 });
  await trainAll(await narrowSettings(folder, { ...more, output: "unbroken" }));
});

/** Where a kill falls: `delay` ms after the `count`-th event of a kind. */
interface Moment {
  event: string;
  count: number;
  delay: number;
}

/** Runs the child, kills it at a moment; the events it printed. */
async function runAndKill(output: string, moment?: Moment): Promise<{ events: string[]; killed: boolean }> {
  const child = spawn(process.execPath, ["--import", tsx, script, folder, output, JSON.stringify(more)]);
  let text = "";
  let timer: NodeJS.Timeout | undefined;
  child.stderr.on("data", (part: Buffer) => process.stderr.write(part));
  child.stdout.on("data", (part: Buffer) => {
    text += part.toString();
    const seen = (event: string) => text.split("\n").filter((line) => line === event).length;
    // A kind that does not come again must not let the run end.
    if (moment && timer === undefined && (seen(moment.event) >= moment.count || seen("step") >= 3))
      timer = setTimeout(() => child.kill("SIGKILL"), moment.delay);
  });
  const [, signal] = (await once(child, "close")) as [number | null, string | null];
  clearTimeout(timer);
  return { events: text.trim().split("\n"), killed: signal === "SIGKILL" };
}

describe("a run that is killed", () => {
  it(`${kills} times ends with the bits of the unbroken one`, async () => {
    const next = draws(Number(process.env.KINORA_KILL_SEED ?? 3));
    const uniform = () => (next() + 1) / 2;
    const at: string[] = [];
    for (let i = 0; i < kills; i++) {
      // One in five while data is read and cached or models load; else within, between and behind steps.
      const early = uniform() < 0.2;
      const event = early ? ["dataset", "cache", "loading", "validating"][Math.floor(uniform() * 4)]! : "step";
      const moment = { event, count: 1 + Math.floor(uniform() * 3), delay: early ? 0 : uniform() * 30 };
      const { events, killed } = await runAndKill("killed", moment);
      at.push(`${events.filter((name) => name === "step").length} steps, ${events.at(-1)}`);
      if (!killed) break;
    }
    expect(at.length).toBeGreaterThan(0.8 * kills);
    const { events, killed } = await runAndKill("killed");
    expect(killed).toBe(false);
    // The last kill may have come too late: the run is finished then, and says so.
    expect(["state", "note"]).toContain(events.at(-1));
    expect(outcome(join(folder, "killed"), files), `killed at ${at.join(", ")}`).toEqual(
      outcome(join(folder, "unbroken"), files),
    );
    const kept = (output: string) => readdirSync(join(folder, output)).filter((name) => name.endsWith(".safetensors"));
    expect(kept("killed").sort()).toEqual(kept("unbroken").sort());
    expect(kept("killed").filter((name) => name.includes("step"))).toHaveLength(4);
    if (process.env.KINORA_KILLS) console.log(`kills: ${at.join("; ")}`);
  }, 600_000);

  it("by a full disk keeps its last state and goes on from it", async () => {
    const output = join(folder, "full");
    const run = await narrowSettings(folder, { ...more, output: "full" });
    const stop = new AbortController();
    await trainAll(run, { stop, onEvent: (event) => event.type === "step" && event.line.step === 5 && stop.abort() });
    const before = readFileSync(join(output, "state.json"), "utf8");
    expect(JSON.parse(before).step).toBe(5);
    // 16 KiB a file: the log goes on, the next state does not fit.
    const limited = spawnSync(
      "bash",
      [
        "-c",
        `trap '' XFSZ; ulimit -f 16; exec "$0" --import "$1" "$2" "$3" full "$4"`,
        process.execPath,
        tsx,
        script,
        folder,
        JSON.stringify(more),
      ],
      { encoding: "utf8" },
    );
    expect(limited.stdout.trim().split("\n").at(-1), limited.stderr).toBe("error io.disk-full");
    expect(readFileSync(join(output, "state.json"), "utf8")).toBe(before);
    await trainAll(run);
    expect(outcome(output, files)).toEqual(outcome(join(folder, "unbroken"), files));
  }, 120_000);
});

describe("two runs in one folder", () => {
  it("are refused, and a dead process's lock is not in the way", async () => {
    const run = await narrowSettings(folder, { output: "twice" });
    const child = spawn(process.execPath, ["--import", tsx, script, folder, "twice", "{}"]);
    await new Promise<void>((resolve) => {
      child.stdout.on("data", (part: Buffer) => part.toString().includes("step") && resolve());
    });
    child.kill("SIGSTOP");
    await expect(trainAll(run)).rejects.toMatchObject({
      code: "train.locked",
      hint: expect.stringContaining("output"),
    });
    child.kill("SIGKILL");
    await once(child, "close");
    expect(readdirSync(join(folder, "twice"))).toContain(".lock");
    const { result } = await trainAll(run);
    expect(result.end).toBe("finished");
    expect(readdirSync(join(folder, "twice"))).not.toContain(".lock");
  }, 120_000);
});
