// The Python peer (bench/peers) on the same inputs and threads: a process that makes its model, warms up, and then runs
// when it is told to; and what it recorded.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { toFloat32 } from "../src/base/float-formats.ts";
import { SafetensorsFile } from "../src/io/safetensors.ts";

const root = fileURLToPath(new URL("./peers/", import.meta.url));
const python = join(root, ".venv", process.platform === "win32" ? "Scripts/python.exe" : "bin/python");

export type PeerCase = "forward" | "lora" | "umt5" | "vae";

/** Where a case keeps its weights (made once) and its record. */
export function peerFolder(name: string): string {
  const folder = join(process.env.KINORA_BENCH_FOLDER ?? join(tmpdir(), "kinora-bench"), name);
  mkdirSync(folder, { recursive: true });
  return folder;
}

export const peerInstalled = (): boolean => existsSync(python);

export const peerHint =
  "python3 -m venv bench/peers/.venv && bench/peers/.venv/bin/pip install -r bench/peers/requirements.txt";

/** A line of the peer's: how long a run of the turn took, and what its training steps came to. */
interface PeerTurn {
  seconds: number;
  losses?: number[];
  gradientNorms?: number[];
}

/** A peer that has taken its first turn, so that its inputs and outputs are in FOLDER/record.safetensors. */
export class Peer implements AsyncDisposable {
  /** Of all its training steps. */
  readonly losses: number[] = [];
  readonly gradientNorms: number[] = [];
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #ended: Promise<number | null>;
  #first: PeerTurn | undefined;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    this.#ended = new Promise((resolve, reject) => {
      child.on("close", resolve);
      child.on("error", reject);
    });
    this.#ended.catch(() => {});
    // A peer that died is told of by the turn that waits for it.
    child.stdin!.on("error", () => {});
  }

  /** `flags` are those of bench/peers/wan.py. */
  static async start(kind: PeerCase, folder: string, flags: Record<string, number | string>): Promise<Peer> {
    const options = Object.entries({ threads: availableParallelism(), ...flags });
    const child = spawn(
      python,
      [join(root, "wan.py"), kind, folder, ...options.flatMap(([name, value]) => [`--${name}`, `${value}`])],
      { stdio: ["pipe", "pipe", "inherit"] },
    );
    const peer = new Peer(child);
    peer.#first = await peer.#next();
    return peer;
  }

  /** Seconds of one run in its next turn; at first of the turn that it took when it started. */
  async turn(): Promise<number> {
    const first = this.#first;
    this.#first = undefined;
    if (first) return first.seconds;
    this.#child.stdin!.write("\n");
    return (await this.#next()).seconds;
  }

  async #next(): Promise<PeerTurn> {
    const line = await this.#lines.next();
    if (line.done) throw new Error(`the peer ended with ${await this.#ended}`);
    const turn = JSON.parse(line.value) as PeerTurn;
    this.losses.push(...(turn.losses ?? []));
    this.gradientNorms.push(...(turn.gradientNorms ?? []));
    return turn;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin!.end();
    await this.#ended.catch(() => {});
  }
}

/** What the peer recorded: inputs and its own outputs. */
export class PeerRecord implements Disposable {
  readonly #file: SafetensorsFile;

  constructor(folder: string) {
    this.#file = SafetensorsFile.open(join(folder, "record.safetensors"));
  }

  names(prefix: string): string[] {
    return this.#file.names.filter((name) => name.startsWith(prefix));
  }

  shape(name: string): readonly number[] {
    return this.#file.info(name).shape;
  }

  values(name: string): Float32Array {
    return toFloat32(this.#file.bytes(name), this.#file.info(name).dtype);
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
