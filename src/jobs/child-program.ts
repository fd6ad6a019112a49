// What runs in a child process: one job, told what to do and when to stop by messages, and telling by messages.
// Its parent decides: a terminal's signals are for the parent, and where the parent is gone this process ends.
import { stopSignals } from "../base/platform.ts";
import { endWithParent } from "../ffi/parent-death.ts";
import type { FromChild, ToChild } from "../protocol/jobs/contract.ts";
import { errorData } from "./errors.ts";
import { performJob } from "./run.ts";
import { type JobName, loadJob } from "./table.ts";

const controller = new AbortController();

// Ctrl-C, and the end of a terminal, reach every process of the terminal's group; SIGTERM is meant for this one.
for (const signal of stopSignals(process.platform))
  process.on(signal, signal === "SIGTERM" ? () => controller.abort() : () => {});
// What is on disk is whole at any moment: there is nothing to wait for.
process.on("disconnect", () => process.exit(1));
endWithParent();

const send = (message: FromChild): Promise<void> =>
  new Promise((resolve) => {
    process.send!(message, undefined, undefined, () => resolve());
  });

async function work({ job, request, cacheFolder }: Extract<ToChild, { type: "start" }>): Promise<FromChild> {
  try {
    const definition = await loadJob(job as JobName);
    const result = await performJob(definition, request, {
      signal: controller.signal,
      cacheFolder,
      env: process.env,
      emit: (event) => void send({ type: "event", event }),
    });
    return { type: "result", result };
  } catch (error) {
    return { type: "error", error: errorData(error) };
  }
}

process.on("message", async (message: ToChild) => {
  if (message.type === "cancel") {
    controller.abort();
    return;
  }
  await send(await work(message));
  process.exit(0);
});
