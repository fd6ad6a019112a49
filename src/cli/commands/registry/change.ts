// kinora registry approve, promote, trial, deprecate, rollback, tag: which version people get.
import { defined } from "../../../base/defined.ts";
import { KinoraError } from "../../../base/errors.ts";
import { command } from "../../command.ts";
import { parseNumber } from "../../parse.ts";
import { makeChange, onlyOne, splitVersion, storeOption, whyOption } from "./shared.ts";

export const registryApprove = command({
  name: "registry approve",
  usage: "ADDRESS@vN",
  options: { ...storeOption, ...whyOption },
  details: "\nAn approval by somebody other than the publisher is needed before a version is promoted.",
  async run({ store, why }, positionals, out) {
    const { address, version } = splitVersion("approve", onlyOne("approve", "one ADDRESS@vN", positionals));
    return makeChange(out, store, address, { action: "approve", version, ...defined({ why }) });
  },
});

export const registryPromote = command({
  name: "registry promote",
  usage: "ADDRESS@vN --why TEXT [--force]",
  options: {
    ...storeOption,
    ...whyOption,
    force: { type: "boolean", help: "promote without acceptance test and approval; the log records it" },
  },
  details: `
Makes a version the current one. It needs passed acceptance tests and an approval by somebody other than its publisher.`,
  async run({ store, why, force }, positionals, out) {
    const { address, version } = splitVersion("promote", onlyOne("promote", "one ADDRESS@vN", positionals));
    return makeChange(out, store, address, { action: "promote", version, force, ...defined({ why }) });
  },
});

export const registryTrial = command({
  name: "registry trial",
  usage: "ADDRESS@vN --share 15% | ADDRESS --end",
  options: {
    ...storeOption,
    share: { type: "string", help: "share of requests, e.g. 15% or 0.15", value: "SHARE" },
    end: { type: "boolean", help: "end the running trial" },
    ...whyOption,
  },
  details: `
Gives a version a share of the requests for the current one. Which requests is decided by a hash of the request's key or
seed, so the same request always gets the same version. Run it again to change the share.`,
  async run({ store, share, end, why }, positionals, out) {
    const text = onlyOne("trial", "one ADDRESS@vN", positionals);
    if (end) {
      if (share !== undefined) throw new KinoraError("cli.bad-arguments", "--share and --end cannot be combined");
      return makeChange(out, store, text.split("@")[0]!, { action: "end-trial", ...defined({ why }) });
    }
    const { address, version } = splitVersion("trial", text);
    return makeChange(out, store, address, { action: "trial", version, share: parseShare(share), ...defined({ why }) });
  },
});

/** `15%` or `0.15`. */
export function parseShare(text: string | undefined): number {
  if (text === undefined) {
    throw new KinoraError("cli.bad-arguments", "--share is missing", { hint: "e.g. --share 15%, or --end" });
  }
  const percent = /^(.*?)\s*%$/.exec(text.trim());
  return percent ? parseNumber("--share", percent[1]!) / 100 : parseNumber("--share", text);
}

export const registryDeprecate = command({
  name: "registry deprecate",
  usage: "ADDRESS@vN [--replaced-by vM]",
  options: {
    ...storeOption,
    "replaced-by": { type: "string", help: "the version to use instead", value: "vM" },
    ...whyOption,
  },
  async run(values, positionals, out) {
    const { address, version } = splitVersion("deprecate", onlyOne("deprecate", "one ADDRESS@vN", positionals));
    const { store, why, "replaced-by": replacedBy } = values;
    return makeChange(out, store, address, { action: "deprecate", version, ...defined({ why, replacedBy }) });
  },
});

export const registryRollback = command({
  name: "registry rollback",
  usage: "ADDRESS [--to vN] --why TEXT",
  options: {
    ...storeOption,
    to: { type: "string", help: "version to go back to (default: the previous current one)", value: "vN" },
    ...whyOption,
  },
  details: "\nRolling back is one event: it takes effect at once for every new request.",
  async run({ store, to, why }, positionals, out) {
    const address = onlyOne("rollback", "one ADDRESS", positionals);
    return makeChange(out, store, address, { action: "roll-back", ...defined({ to, why }) });
  },
});

export const registryTag = command({
  name: "registry tag",
  usage: "ADDRESS@vN TAG…",
  options: { ...storeOption },
  details: "\nReplaces the tags of a version.",
  async run({ store }, [text, ...tags], out) {
    if (text === undefined)
      throw new KinoraError("cli.bad-arguments", "no version was given", { hint: "ADDRESS@vN TAG…" });
    const { address, version } = splitVersion("tag", text);
    return makeChange(out, store, address, { action: "tag", version, tags });
  },
});
