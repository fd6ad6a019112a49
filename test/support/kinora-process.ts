// The command line as a process of its own, to be limited, interrupted or killed.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const binary = fileURLToPath(new URL("../../bin/kinora.mjs", import.meta.url));

export interface Ended {
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

/** Starts it; `shell` is run before in the same process, such as `ulimit -f 64`. */
export function startKinora(argv: readonly string[], shell?: string): ChildProcess {
  const stdio = ["ignore", "pipe", "pipe"] as ["ignore", "pipe", "pipe"];
  return shell === undefined
    ? spawn(process.execPath, [binary, ...argv], { stdio })
    : spawn("bash", ["-c", `${shell}; exec "$@"`, "bash", process.execPath, binary, ...argv], { stdio });
}

export function ended(child: ChildProcess): Promise<Ended> {
  let [stdout, stderr] = ["", ""];
  child.stdout!.on("data", (chunk: Buffer) => {
    stdout += chunk;
  });
  child.stderr!.on("data", (chunk: Buffer) => {
    stderr += chunk;
  });
  return new Promise((resolve) => child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr })));
}

/** Runs a shell script with `$kinora` where disks can be mounted that nobody else sees. */
export function withOwnMounts(script: string, ...argv: string[]): { code: number | null; output: string } {
  const kinora = `kinora() { "${process.execPath}" "${binary}" "$@"; }`;
  const { status, stdout, stderr } = spawnSync(
    "unshare",
    ["-rm", "bash", "-c", `${kinora}\n${script}`, "bash", ...argv],
    { encoding: "utf8" },
  );
  return { code: status, output: stdout + stderr };
}

/** Whether this machine lets a test mount a disk of its own. */
export const canMount =
  process.platform === "linux" &&
  spawnSync("unshare", ["-rm", "bash", "-c", "mount -t tmpfs -o size=1m none /mnt"]).status === 0;
