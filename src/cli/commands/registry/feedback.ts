// kinora feedback: what somebody thinks of a film, for the versions that made it.
import { defined } from "../../../base/defined.ts";
import { KinoraError } from "../../../base/errors.ts";
import { command } from "../../command.ts";
import { perform } from "../../follow.ts";
import { parseChoice } from "../../parse.ts";
import { storeOption } from "./shared.ts";

export const feedbackCommand = command({
  name: "feedback",
  usage: "FILE.mp4 good|bad [--note TEXT]",
  options: { ...storeOption, note: { type: "string", help: "what is good or bad about it", value: "TEXT" } },
  details: `
Appends the verdict to the log of each registry version that made the video; its recipe names them.`,
  async run({ store, note }, [film, verdict, ...more], out) {
    if (film === undefined || verdict === undefined || more.length > 0) {
      throw new KinoraError("cli.bad-arguments", "feedback takes a video and a verdict", {
        hint: "kinora feedback out.mp4 good",
      });
    }
    const request = {
      film,
      verdict: parseChoice("the verdict", verdict, ["good", "bad"]),
      ...defined({ store, note }),
    };
    const result = await perform(out, "registry-feedback", request);
    out.answer(result, () =>
      result.versions.map(({ address, version }) => `${address}@${version}: ${verdict} feedback recorded`).join("\n"),
    );
    return 0;
  },
});
