// stable-diffusion.cpp as a peer on the CPU: its own program, one process a turn, which says how long it sampled.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";

const program = process.platform === "win32" ? "sd-cli.exe" : "sd-cli";

export const stableDiffusionCppHint = `put its ${program} on PATH or its path into KINORA_SD_CPP`;

/** The program's path: KINORA_SD_CPP, else the first on PATH. */
export function findStableDiffusionCpp(): string | undefined {
  const folders = (process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== "");
  return [process.env.KINORA_SD_CPP, ...folders.map((folder) => join(folder, program))].find(
    (path) => path && existsSync(path),
  );
}

export interface SdCppFilm {
  transformer: string;
  autoencoder: string;
  width: number;
  height: number;
  frames: number;
  /** Where it may put the film; it is ended before it decodes one. */
  out: string;
}

/**
 * Seconds of one sampling step without guidance, loading and decoding apart. Without a text encoder it attends to zeros: as
 * many rows as any text has.
 */
export async function sampleByStableDiffusionCpp(path: string, film: SdCppFilm): Promise<number> {
  const { transformer, autoencoder, width, height, frames, out } = film;
  const flags = {
    ...{ "-M": "vid_gen", "--diffusion-model": transformer, "--vae": autoencoder, "-p": "a fox", "-o": out },
    ...{ "-W": width, "-H": height, "--video-frames": frames, "--steps": 1, "--cfg-scale": 1, "-s": 1 },
    ...{ "--sampling-method": "euler", "-t": availableParallelism() },
  };
  const argv = Object.entries(flags).flatMap(([name, value]) => [name, `${value}`]);
  const child = spawn(path, [...argv, "--diffusion-fa"], { stdio: ["ignore", "pipe", "pipe"] });
  const closed = new Promise<number | null>((resolve, reject) => {
    child.on("close", resolve);
    child.on("error", reject);
  });
  let seconds: number | undefined;
  const said: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      said.push(line);
      const taken = /sampling completed, taking ([\d.]+)s/.exec(line)?.[1];
      if (taken === undefined) return;
      seconds = Number(taken);
      child.kill("SIGKILL");
    });
  }
  const code = await closed;
  if (seconds !== undefined) return seconds;
  throw new Error(`stable-diffusion.cpp ended with ${code}:\n${said.slice(-20).join("\n")}`);
}
