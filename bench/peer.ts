// Runs the Python peer (bench/peers) on the same inputs and threads, and hands over what it recorded.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { toFloat32 } from "../src/base/float-formats.ts";
import { SafetensorsFile } from "../src/io/safetensors.ts";

const root = fileURLToPath(new URL("./peers/", import.meta.url));
const python = join(root, ".venv", process.platform === "win32" ? "Scripts/python.exe" : "bin/python");

export type PeerCase = "forward" | "lora" | "umt5" | "vae";

export interface PeerRun {
  seconds: number[];
  peakResident: number;
  torch: string;
  losses?: number[];
  gradientNorms?: number[];
}

/** Where a case keeps its weights (made once) and its record. */
export function peerFolder(name: string): string {
  const folder = join(process.env.KINORA_BENCH_FOLDER ?? join(tmpdir(), "kinora-bench"), name);
  mkdirSync(folder, { recursive: true });
  return folder;
}

export const peerInstalled = (): boolean => existsSync(python);

export const peerHint =
  "python3 -m venv bench/peers/.venv && bench/peers/.venv/bin/pip install -r bench/peers/requirements.txt";

export async function runPeer(
  kind: PeerCase,
  folder: string,
  flags: Record<string, number | string>,
): Promise<PeerRun> {
  const options = Object.entries({ threads: availableParallelism(), ...flags }).flatMap(([k, v]) => [
    `--${k}`,
    String(v),
  ]);
  const child = spawn(python, [join(root, "wan.py"), kind, folder, ...options], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  if (code !== 0) throw new Error(`the peer ended with ${code}`);
  return JSON.parse(output.trim().split("\n").at(-1)!) as PeerRun;
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
