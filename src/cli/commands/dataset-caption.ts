// `kinora dataset caption DIR`: reads the options, runs the captioning or accepts drafts, prints what happens.
import { KinoraError } from "../../base/errors.ts";
import { plural } from "../../base/units.ts";
import { type AcceptEvent, acceptDrafts } from "../../dataset/caption/accept.ts";
import { type CaptionEvent, captionFolder, planCaptions } from "../../dataset/caption/caption.ts";
import { type CaptionSettings, captionDefaults } from "../../dataset/caption/settings.ts";
import {
  defaultTemplate,
  type PromptTemplate,
  promptTemplate,
  promptTemplates,
  readTemplate,
} from "../../dataset/caption/templates.ts";
import { knownEndpoints, resolveEndpoint } from "../../io/chat/endpoint.ts";
import { type ChatProtocol, chatProtocols } from "../../io/chat/wire.ts";
import { command, type Option, type Output, type Values } from "../command.ts";
import { parseChoice, parseNumber } from "../parse.ts";

const options = {
  endpoint: { type: "string", value: "URL|NAME", help: `address, or ${Object.keys(knownEndpoints).join(", ")}` },
  model: { type: "string", value: "NAME", help: "vision-language model, as the endpoint calls it" },
  protocol: { type: "string", value: chatProtocols.join("|"), help: "where the address does not tell" },
  "key-env": { type: "string", value: "VARIABLE", help: "environment variable that holds the key" },
  trigger: { type: "string", value: "TEXT", help: "first in every caption, unchanged" },
  separator: { type: "string", value: "TEXT", help: "between the trigger and the rest (by template: '. ' or ', ')" },
  template: {
    type: "string",
    value: "NAME",
    help: promptTemplates.map(({ name }) => name).join(", "),
    default: defaultTemplate,
  },
  "template-file": { type: "string", value: "FILE", help: "an instruction of your own; see below" },
  note: { type: "string", value: "TEXT", help: "added to the instruction, e.g. 'The woman is a fencer.'" },
  missing: { type: "boolean", help: "only items without a caption (what happens anyway)" },
  rewrite: { type: "boolean", help: "all items; previous captions are kept as NAME.txt.1.bak, .2.bak, …" },
  draft: { type: "boolean", help: "write NAME.draft.txt to be edited, leave captions alone" },
  accept: { type: "boolean", help: "turn drafts into captions; over existing ones only with --rewrite" },
  "dry-run": { type: "boolean", help: "show what would be asked, ask nothing" },
  restart: { type: "boolean", help: "with --rewrite: begin anew instead of going on after an interruption" },
  limit: { type: "string", value: "N", help: "at most N items, to try an instruction out" },
  send: { type: "string", value: "frames|video", help: "what is sent of a clip", default: captionDefaults.send },
  frames: {
    type: "string",
    value: "N",
    help: "frames of a clip, evenly sampled",
    default: String(captionDefaults.frames),
  },
  "frame-size": {
    type: "string",
    value: "PIXELS",
    help: "longest side of what is sent",
    default: String(captionDefaults.side),
  },
  "max-tokens": { type: "string", value: "N", help: "longest answer", default: String(captionDefaults.maxTokens) },
  temperature: { type: "string", value: "T", help: "0 to 2", default: String(captionDefaults.temperature) },
  seed: { type: "string", value: "N", help: "where the endpoint takes one" },
  body: { type: "string", value: "JSON", help: "further fields of the request, e.g. '{\"enable_thinking\":false}'" },
  "requests-per-minute": { type: "string", value: "N", help: "no faster than this" },
  concurrency: { type: "string", value: "N", help: "requests at once", default: String(captionDefaults.concurrency) },
  timeout: {
    type: "string",
    value: "SECONDS",
    help: "for one answer, at most 300",
    default: String(captionDefaults.timeoutSeconds),
  },
  retries: {
    type: "string",
    value: "N",
    help: "further tries of a request that failed",
    default: String(captionDefaults.retries),
  },
  extension: { type: "string", value: ".EXT", help: "ending of caption files", default: captionDefaults.extension },
} as const satisfies Record<string, Option>;

const templateRows = promptTemplates.map(({ name, summary }) => `  ${name.padEnd(12)}  ${summary}`).join("\n");

const details = `
The endpoint is any server of the OpenAI chat protocol (Ollama, vLLM, LM Studio, OpenAI) or DashScope, its own protocol
or its OpenAI-compatible one. Keys come from the environment: OPENAI_API_KEY, or DASHSCOPE_API_KEY (DASH_API_KEY), or
the variable that --key-env names.

Templates, each with a text for clips and one for pictures:
${templateRows}
A template file is the instruction as plain text, or two of them under lines that say [clip] and [picture].
{trigger}, {note} and {view} (what the model is shown of a clip) are filled in.

Examples:
  kinora dataset caption set --endpoint ollama --model qwen2.5vl --trigger "Studio Ghibli style" --template style
  kinora dataset caption set --endpoint dashscope --model qwen-vl-max --draft --limit 5
  kinora dataset caption set --accept
  kinora dataset caption set --endpoint http://gpu:8000/v1 --model Qwen/Qwen2.5-VL-7B-Instruct --send video --rewrite`;

type Given = Values<typeof options>;

function number(given: Given, name: keyof typeof options): number | undefined {
  const text = given[name];
  return typeof text === "string" ? parseNumber(`--${name}`, text) : undefined;
}

function oneOf<T extends string>(given: Given, name: keyof typeof options, allowed: readonly T[]): T | undefined {
  const text = given[name];
  return typeof text === "string" ? parseChoice(`--${name}`, text, allowed) : undefined;
}

function extraFields(text: string | undefined): Record<string, unknown> | undefined {
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (value !== null && typeof value === "object" && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Told below, without the parser's words.
  }
  throw new KinoraError("cli.bad-value", "--body takes a JSON object", { hint: `e.g. --body '{"top_p":0.8}'` });
}

async function templateOf(given: Given, out: Output): Promise<PromptTemplate> {
  const file = given["template-file"];
  if (file === undefined) return promptTemplate(given.template);
  const { template, notices } = await readTemplate(file);
  for (const notice of notices) out.note(`note: ${notice}`);
  return template;
}

/** `dry`: nothing will be sent, so neither endpoint, model nor key need be there. */
async function settingsOf(folder: string, given: Given, dry: boolean, out: Output): Promise<CaptionSettings> {
  if (given.endpoint === undefined && !dry)
    throw new KinoraError("cli.missing-option", "which endpoint?", {
      hint: "e.g. --endpoint ollama, or --endpoint http://127.0.0.1:8000/v1",
    });
  if (given.model === undefined && !dry)
    throw new KinoraError("cli.missing-option", "which model?", {
      hint: "e.g. --model qwen2.5vl (Ollama), --model qwen-vl-max (DashScope)",
    });
  const protocol = oneOf<ChatProtocol>(given, "protocol", chatProtocols);
  const endpoint = resolveEndpoint(
    {
      endpoint: given.endpoint ?? "ollama",
      withoutKey: dry,
      ...(protocol === undefined ? {} : { protocol }),
      ...(given["key-env"] === undefined ? {} : { keyVariable: given["key-env"] }),
    },
    process.env,
  );
  const [seed, limit, rate, extra] = [
    number(given, "seed"),
    number(given, "limit"),
    number(given, "requests-per-minute"),
    extraFields(given.body),
  ];
  return {
    folder,
    endpoint,
    model: given.model ?? "a model",
    template: await templateOf(given, out),
    trigger: given.trigger?.trim() ?? captionDefaults.trigger,
    note: given.note ?? captionDefaults.note,
    mode: given.rewrite ? "rewrite" : "missing",
    draft: given.draft,
    send: oneOf(given, "send", ["frames", "video"] as const) ?? captionDefaults.send,
    frames: number(given, "frames") ?? captionDefaults.frames,
    side: number(given, "frame-size") ?? captionDefaults.side,
    maxTokens: number(given, "max-tokens") ?? captionDefaults.maxTokens,
    temperature: number(given, "temperature") ?? captionDefaults.temperature,
    timeoutSeconds: number(given, "timeout") ?? captionDefaults.timeoutSeconds,
    retries: number(given, "retries") ?? captionDefaults.retries,
    concurrency: number(given, "concurrency") ?? captionDefaults.concurrency,
    extension: given.extension,
    restart: given.restart,
    ...(given.separator === undefined ? {} : { separator: given.separator }),
    ...(seed === undefined ? {} : { seed }),
    ...(limit === undefined ? {} : { limit }),
    ...(rate === undefined ? {} : { requestsPerMinute: rate }),
    ...(extra === undefined ? {} : { extra }),
  };
}

function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "?";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

const warningWords = {
  "too-long": "over 512 tokens by estimate: the text encoder will not read its end",
  cut: "the answer was cut at --max-tokens; the caption ends with its last whole sentence",
} as const;

/** What a person reads of one event. */
function tell(event: CaptionEvent, out: Output): void {
  switch (event.type) {
    case "plan":
      for (const notice of event.notices) out.note(`note: ${notice}`);
      out.note(
        `${plural(event.todo.length, "item")} to caption, ${event.kept.length} left as they are${event.resumes ? " (going on after an interruption)" : ""}`,
      );
      if (event.todo.length > 0) out.progress(`captioned 0 of ${event.todo.length}`);
      break;
    case "retry":
      out.note(`${event.name}: ${event.message}; trying again in ${event.waitSeconds.toFixed(1)} s`);
      break;
    case "captioned":
      for (const warning of event.warnings) out.note(`${event.name}: ${warningWords[warning]}`);
      break;
    case "kept":
      out.note(`${event.name}: ${event.reason}`);
      break;
    case "failed":
      out.note(`${event.name}: error ${event.code}: ${event.message}${event.hint ? ` (${event.hint})` : ""}`);
      break;
    case "progress":
      out.progress(
        `captioned ${event.done} of ${event.total}, ${duration(event.seconds)}, about ${duration(event.etaSeconds)} left`,
      );
      break;
    case "finished":
      break;
  }
}

async function dryRun(settings: CaptionSettings, json: boolean, out: Output): Promise<void> {
  const { notices, ...plan } = await planCaptions(settings);
  for (const notice of notices) out.note(`note: ${notice}`);
  const requests = plan.todo.length;
  if (json) {
    out.data(JSON.stringify({ ...plan, requests }, null, 2));
    return;
  }
  for (const name of plan.todo) out.data(name);
  for (const { name, reason } of plan.kept) out.data(`${name}: left as it is, ${reason}`);
  const { clip, picture } = plan.prompts;
  if (clip !== undefined) out.data(`\nasked of a clip:\n${clip}`);
  if (picture !== undefined) out.data(`\nasked of a picture:\n${picture}`);
  out.data(`\n${plural(requests, "request")} would be sent`);
}

async function caption(settings: CaptionSettings, json: boolean, out: Output): Promise<number> {
  const captioned: Extract<CaptionEvent, { type: "captioned" }>[] = [];
  const failed: Extract<CaptionEvent, { type: "failed" }>[] = [];
  const kept: { name: string; reason: string }[] = [];
  let finished: Extract<CaptionEvent, { type: "finished" }> | undefined;
  try {
    for await (const event of captionFolder(settings)) {
      tell(event, out);
      if (event.type === "captioned") captioned.push(event);
      else if (event.type === "failed") failed.push(event);
      else if (event.type === "plan") kept.push(...event.kept);
      else if (event.type === "kept") kept.push({ name: event.name, reason: event.reason });
      else if (event.type === "finished") finished = event;
    }
  } catch (error) {
    if (captioned.length > 0)
      out.note(`${plural(captioned.length, "item")} captioned before this; run the same command again to go on`);
    throw error;
  }
  const { requests = 0, seconds = 0, usage } = finished ?? {};
  if (json) {
    const plain = <T extends { type: string }>({ type: _, ...rest }: T) => rest;
    out.data(
      JSON.stringify(
        { captioned: captioned.map(plain), failed: failed.map(plain), kept, requests, seconds, usage },
        null,
        2,
      ),
    );
  } else {
    for (const { path, text } of captioned) out.data(`${path}: ${text}`);
    out.note(
      `${plural(captioned.length, settings.draft ? "draft" : "caption")} written, ${failed.length} failed, ${kept.length} left as they were; ${plural(requests, "request")}, ${duration(seconds)}${usage && usage.inputTokens > 0 ? `, ${usage.inputTokens} + ${usage.outputTokens} tokens` : ""}`,
    );
    if (settings.draft && captioned.length > 0)
      out.note("edit the .draft files, then run: kinora dataset caption DIR --accept");
  }
  return failed.length > 0 ? 1 : 0;
}

async function accept(folder: string, given: Given, json: boolean, out: Output): Promise<void> {
  const accepted: Extract<AcceptEvent, { type: "accepted" }>[] = [];
  const kept: Extract<AcceptEvent, { type: "kept" }>[] = [];
  for await (const event of acceptDrafts({
    folder,
    extension: given.extension,
    overwrite: given.rewrite,
    ...(given.trigger === undefined ? {} : { trigger: given.trigger }),
    ...(given.separator === undefined ? {} : { separator: given.separator }),
  })) {
    if (event.type === "accepted") {
      accepted.push(event);
      if (event.triggerRestored) out.note(`${event.name}: the trigger was put back in front`);
      for (const warning of event.warnings) out.note(`${event.name}: ${warningWords[warning]}`);
    } else if (event.type === "kept") {
      kept.push(event);
      out.note(`${event.name}: ${event.reason}`);
    } else if (event.type === "notice") out.note(`note: ${event.message}`);
  }
  if (json)
    out.data(
      JSON.stringify(
        { accepted: accepted.map(({ type: _, ...rest }) => rest), kept: kept.map(({ type: _, ...rest }) => rest) },
        null,
        2,
      ),
    );
  else out.data(`${plural(accepted.length, "draft")} accepted, ${kept.length} left as they are`);
}

export const datasetCaption = command({
  name: "dataset caption",
  summary: "Write captions with a vision-language model.",
  usage: "DIR --endpoint URL|NAME --model NAME [--trigger TEXT] | DIR --accept",
  details,
  options,
  async run(given, positionals, out) {
    const { json } = given;
    const [folder, ...more] = positionals;
    if (folder === undefined || more.length > 0)
      throw new KinoraError("cli.bad-arguments", "dataset caption takes one folder", {
        actual: plural(positionals.length, "argument"),
        hint: "kinora dataset caption DIR --endpoint URL --model NAME",
      });
    const conflict = (a: "missing" | "draft" | "dry-run" | "accept", b: "rewrite" | "accept") => {
      if (given[a] && given[b])
        throw new KinoraError("cli.bad-arguments", `--${a} and --${b} do not go together`, {
          hint: "give one of them",
        });
    };
    conflict("missing", "rewrite");
    conflict("draft", "accept");
    conflict("dry-run", "accept");
    if (given.accept) {
      await accept(folder, given, json, out);
      return 0;
    }
    const settings = await settingsOf(folder, given, given["dry-run"], out);
    if (given["dry-run"]) {
      await dryRun(settings, json, out);
      return 0;
    }
    return caption(settings, json, out);
  },
});
