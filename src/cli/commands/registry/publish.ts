// kinora registry init, publish: a store, and versions in it.
import { defined } from "../../../base/defined.ts";
import { KinoraError } from "../../../base/errors.ts";
import { formatBytes } from "../../../base/units.ts";
import type { ResultOf } from "../../../jobs/table.ts";
import { loraKinds } from "../../../protocol/registry.ts";
import { command } from "../../command.ts";
import { perform } from "../../follow.ts";
import { parseNumber, parseWholeNumber } from "../../parse.ts";
import { storeOption, whyOption } from "./shared.ts";

export const registryInit = command({
  name: "registry init",
  usage: "--store DIR|s3://BUCKET/PREFIX",
  options: { ...storeOption },
  details: `
Creates a registry, or reports the one that exists. A folder on a network share or a bucket serves a whole team. S3 takes
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, for other servers, AWS_ENDPOINT_URL_S3 from the environment.`,
  async run(values, positionals, out) {
    if (positionals.length > 1) throw tooMany(positionals);
    const store = values.store ?? positionals[0];
    const result = await perform(out, "registry-init", defined({ store }));
    const { made, person } = result;
    out.answer(result, () =>
      made
        ? `created ${result.store}; you are ${person.who} (${person.role ?? "no role"})`
        : `${result.store} is already a registry; you are ${person.who} (${person.role ?? "no role"})`,
    );
    return 0;
  },
});

const tooMany = (positionals: readonly string[]) =>
  new KinoraError("cli.bad-arguments", "kinora registry init takes one store", { actual: positionals.join(" ") });

const kinds = Object.keys(loraKinds).join(", ");

export const registryPublish = command({
  name: "registry publish",
  usage: "RUN|FILE… --kind KIND --project PROJECT --name NAME",
  options: {
    ...storeOption,
    kind: { type: "string", help: kinds, value: "KIND" },
    project: { type: "string", help: "project, client or brand", value: "PROJECT" },
    name: { type: "string", help: "name of the LoRA", value: "NAME" },
    as: { type: "string", help: "the three in one, e.g. styles/acme/neon", value: "ADDRESS" },
    checkpoint: {
      type: "string",
      help: "of a run: best (by held-out loss), last, or a step (default last)",
      value: "STEP",
    },
    trigger: { type: "string", help: "trigger words", value: "TEXT", multiple: true },
    strength: { type: "string", help: "recommended strength (default 1)", value: "S" },
    description: { type: "string", help: "what it is for", value: "TEXT" },
    licence: { type: "string", help: "licence of the LoRA", value: "TEXT" },
    tag: { type: "string", help: "tag", value: "TAG", multiple: true },
    ...whyOption,
  },
  details: `
RUN is the output folder of kinora train: its LoRA files (both experts as one version), hyperparameters, held-out loss,
previews and log are taken along. FILE is a LoRA from elsewhere, or one file per expert; hyperparameters come from
its metadata. Versions are numbered v1, v2, … and never change; identical files are stored once.

Examples:
  kinora registry publish runs/neon --kind style --project acme --name neon --checkpoint best --trigger "neon style"
  kinora registry publish style_high.safetensors style_low.safetensors --as styles/acme/neon`,
  async run(values, positionals, out) {
    if (positionals.length === 0) {
      throw new KinoraError("cli.bad-arguments", "no run or LoRA file was given", {
        hint: "kinora registry publish runs/neon --kind style --project acme --name neon",
      });
    }
    const result = await perform(
      out,
      "registry-publish",
      {
        ...defined({
          store: values.store,
          checkpoint: checkpointOf(values.checkpoint),
          strength: values.strength === undefined ? undefined : parseNumber("--strength", values.strength),
          description: values.description,
          licence: values.licence,
          why: values.why,
          triggerWords: values.trigger.length > 0 ? values.trigger : undefined,
          tags: values.tag.length > 0 ? values.tag : undefined,
        }),
        address: addressOf(values),
        files: positionals,
      },
      ({ done, of }) => out.progress(`storing files: ${done} of ${of}`),
    );
    for (const note of result.notes) out.say(`note: ${note}`);
    out.answer(result, () => published(result));
    return 0;
  },
});

function addressOf({
  as,
  kind,
  project,
  name,
}: {
  as?: string;
  kind?: string;
  project?: string;
  name?: string;
}): string {
  const parts = { kind, project, name };
  const missing = Object.entries(parts).flatMap(([key, value]) => (value === undefined ? [`--${key}`] : []));
  if (as !== undefined && missing.length === 3) return as;
  if (as === undefined && missing.length === 0) return `${kind}/${project}/${name}`;
  throw new KinoraError(
    "cli.bad-arguments",
    as === undefined ? "the LoRA's address is incomplete" : "--as replaces --kind, --project and --name",
    {
      expected: "--kind, --project and --name, or --as KIND/PROJECT/NAME",
      actual: missing.length > 0 && as === undefined ? `no ${missing.join(", ")}` : undefined,
      hint: `--kind is one of ${kinds}`,
    },
  );
}

function checkpointOf(text: string | undefined): "best" | "last" | number | undefined {
  if (text === undefined || text === "best" || text === "last") return text;
  return parseWholeNumber("--checkpoint", text);
}

function published({ address, version, manifest }: ResultOf<"registry-publish">): string {
  const files = manifest.files.map(
    ({ path, role, bytes, autoV2 }) => `  ${path}  ${formatBytes(bytes)}${autoV2 ? `, AutoV2 ${autoV2}` : `, ${role}`}`,
  );
  return [`published ${address}@${version}`, ...files].join("\n");
}
