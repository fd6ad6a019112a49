// The system's ffmpeg as a child process: the bench spoils films with it and asks it for its own opinion of them.
import { spawn } from "node:child_process";

/** What it wrote, in order. @throws with the last lines where it failed, or ENOENT where it is missing. */
export async function ffmpeg(args: readonly string[]): Promise<string> {
  const child = spawn("ffmpeg", ["-hide_banner", "-nostdin", "-y", "-threads", "1", ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [text, complaints] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (part: string) => {
    text += part;
  });
  child.stderr.setEncoding("utf8").on("data", (part: string) => {
    complaints += part;
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject).on("close", resolve);
  });
  if (code !== 0) throw new Error(`ffmpeg ${args.join(" ")}\n${complaints.split("\n").slice(-8).join("\n")}`);
  return text;
}

/** Its version; undefined where there is none. */
export async function ffmpegVersion(): Promise<string | undefined> {
  try {
    return /ffmpeg version (\S+)/.exec(await ffmpeg(["-version"]))?.[1];
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
