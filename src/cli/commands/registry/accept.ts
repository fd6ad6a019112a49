// kinora accept: tests whether a version of a registry can be used.
import { defined } from "../../../base/defined.ts";
import { KinoraError } from "../../../base/errors.ts";
import { command } from "../../command.ts";
import { follow, STOPPED } from "../../follow.ts";
import { parseChoice, parseSize, parseWholeNumber } from "../../parse.ts";
import { storeOption } from "./shared.ts";

export const acceptCommand = command({
  name: "accept",
  usage: "ADDRESS@vN --prompts FILE",
  options: {
    ...storeOption,
    prompts: { type: "string", help: "prompts, one per line, as kinora train's previews take them", value: "FILE" },
    phase: { type: "string", help: "1: technical faults (default 1)", value: "N" },
    out: { type: "string", help: "folder for videos and report (default: accept-NAME-vN)", value: "DIR" },
    task: { type: "string", help: "model (default: the one it was trained for)", value: "MODEL" },
    ckpt_dir: { type: "string", help: "checkpoint folder; tiny-* models ship with Kinora", value: "DIR" },
    sample_steps: { type: "string", help: "steps (default: by model)", value: "N" },
    size: { type: "string", help: "width*height (default: by model)", value: "W*H" },
    frame_num: { type: "string", help: "frames, 4n + 1 (default: by model)", value: "F" },
    device: { type: "string", help: "device (default auto)", value: "NAME" },
  },
  flags: {
    model: "task",
    checkpoint: "ckpt_dir",
    steps: "sample_steps",
    frames: "frame_num",
  },
  details: `
Generates 20 videos, each prompt with the base model and with the LoRA at strengths 0.6, 0.8 and 1, from the same seeds. It
looks for errors, black or frozen videos, flicker, saturated colours and seams that the base's videos do not have, and
compares time and peak memory. The verdict goes into the log of the version, with the report. Run the same command again
to resume. Exit code 0 only if the test is passed.`,
  async run(values, [reference, ...more], out) {
    if (reference === undefined || more.length > 0 || values.prompts === undefined) {
      throw new KinoraError("cli.bad-arguments", "accept takes one version and --prompts", {
        hint: "kinora accept styles/acme/neon@v2 --prompts prompts.txt",
      });
    }
    const whole = (name: string, text: string | undefined) =>
      text === undefined ? undefined : parseWholeNumber(name, text);
    if (values.phase !== undefined) parseChoice("--phase", values.phase, ["1"]);
    const request = {
      ...{ reference, prompts: values.prompts, phase: 1 as const },
      ...defined({
        store: values.store,
        out: values.out,
        model: values.task,
        checkpoint: values.ckpt_dir,
        steps: whole("--sample_steps", values.sample_steps),
        size: values.size === undefined ? undefined : parseSize(values.size),
        frames: whole("--frame_num", values.frame_num),
        device: values.device,
      }),
    };
    const result = await follow(out, "accept", request, {
      show(event) {
        if (event.type === "note") return out.say(event.text);
        const { done, of, cell } = event;
        out.progress(`video ${done} of ${of}`);
        const wrong = [...cell.faults, ...(cell.error ? [cell.error] : [])].join(", ");
        const what = cell.strength === undefined ? "base" : `strength ${cell.strength}`;
        if (wrong !== "") out.say(`video ${done} (${what}): ${wrong}`);
      },
      until: () => "this step",
      stopped: () => ({ value: { end: "stopped" }, text: "stopped; run the same command again to continue" }),
    });
    if (!result) return STOPPED;
    const { address, version, phase, verdict, reasons, report } = result;
    out.answer(result, () =>
      [`${address}@${version} ${verdict} acceptance phase ${phase}`, ...reasons, report].join("\n"),
    );
    return verdict === "passed" ? 0 : 1;
  },
});
