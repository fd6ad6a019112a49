// `kinora dataset caption DIR`: reads the options, runs the captioning or accepts drafts, prints what happens.
import { KinoraError } from "../../base/errors.ts";
import { plural } from "../../base/units.ts";
import { captionDefaults } from "../../dataset/caption/settings.ts";
import { defaultTemplate, promptTemplates } from "../../dataset/caption/templates.ts";
import { knownEndpoints } from "../../io/chat/endpoint.ts";
import { chatProtocols } from "../../io/chat/wire.ts";
import type { EventOf, RequestOf, ResultOf } from "../../jobs/table.ts";
import { command, type Option, type Values } from "../command.ts";
import { follow, perform, STOPPED } from "../follow.ts";
import { parseChoice, parseNumber } from "../parse.ts";
import type { Printer } from "../terminal.ts";

const options = {
  endpoint: { type: "string", value: "URL|NAME", help: `address, or ${Object.keys(knownEndpoints).join(", ")}` },
  model: { type: "string", value: "NAME", help: "vision-language model, by the endpoint's name for it" },
  protocol: { type: "string", value: chatProtocols.join("|"), help: "protocol, if the address does not tell" },
  "key-env": { type: "string", value: "VARIABLE", help: "environment variable that holds the API key" },
  trigger: { type: "string", value: "TEXT", help: "trigger phrase that begins every caption" },
  separator: {
    type: "string",
    value: "TEXT",
    help: "text between the trigger and the rest (default by template: '. ' or ', ')",
  },
  template: {
    type: "string",
    value: "NAME",
    help: promptTemplates.map(({ name }) => name).join(", "),
    default: defaultTemplate,
  },
  "template-file": { type: "string", value: "FILE", help: "your own instruction; see below" },
  note: { type: "string", value: "TEXT", help: "added to the instruction, e.g. 'The woman is a fencer.'" },
  missing: { type: "boolean", help: "only items without a caption (the default)" },
  rewrite: { type: "boolean", help: "rewrite all captions; the old ones are kept as NAME.txt.1.bak, .2.bak, …" },
  draft: { type: "boolean", help: "write NAME.draft.txt for editing; captions stay as they are" },
  accept: { type: "boolean", help: "turn drafts into captions; with --rewrite also over existing ones" },
  "dry-run": { type: "boolean", help: "print the requests without sending them" },
  restart: { type: "boolean", help: "with --rewrite: start over instead of resuming" },
  limit: { type: "string", value: "N", help: "at most N items, to try out an instruction" },
  send: { type: "string", value: "frames|video", help: "what to send of a clip", default: captionDefaults.send },
  frames: {
    type: "string",
    value: "N",
    help: "number of frames per clip, evenly spaced",
    default: String(captionDefaults.frames),
  },
  "frame-size": {
    type: "string",
    value: "PIXELS",
    help: "longest side of the pictures sent, in pixels",
    default: String(captionDefaults.side),
  },
  "max-tokens": {
    type: "string",
    value: "N",
    help: "maximum length of an answer, in tokens",
    default: String(captionDefaults.maxTokens),
  },
  temperature: { type: "string", value: "T", help: "0 to 2", default: String(captionDefaults.temperature) },
  seed: { type: "string", value: "N", help: "sampling seed, if the endpoint takes one" },
  body: { type: "string", value: "JSON", help: "extra request fields, e.g. '{\"enable_thinking\":false}'" },
  "requests-per-minute": { type: "string", value: "N", help: "maximum request rate" },
  concurrency: { type: "string", value: "N", help: "requests at once", default: String(captionDefaults.concurrency) },
  timeout: {
    type: "string",
    value: "SECONDS",
    help: "timeout of one request, at most 300",
    default: String(captionDefaults.timeoutSeconds),
  },
  retries: {
    type: "string",
    value: "N",
    help: "retries of a failed request",
    default: String(captionDefaults.retries),
  },
  extension: { type: "string", value: ".EXT", help: "extension of caption files", default: captionDefaults.extension },
} as const satisfies Record<string, Option>;

const templateRows = promptTemplates.map(({ name, summary }) => `  ${name.padEnd(12)}  ${summary}`).join("\n");

const details = `
The endpoint is any server of the OpenAI chat protocol (Ollama, vLLM, LM Studio, OpenAI), or DashScope in its
OpenAI-compatible mode. API keys come from the environment: OPENAI_API_KEY, DASHSCOPE_API_KEY (or DASH_API_KEY), or
the variable that --key-env names.

Templates, each with a version for clips and one for pictures:
${templateRows}
A template file holds the instruction as plain text, or two instructions under the lines [clip] and [picture].
{trigger}, {note} and {view} (what the model sees of a clip) are filled in.

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

function requestOf(folder: string, given: Given): RequestOf<"caption-dataset"> {
  return {
    folder,
    endpoint: given.endpoint,
    model: given.model,
    protocol: oneOf(given, "protocol", chatProtocols),
    keyVariable: given["key-env"],
    trigger: given.trigger,
    separator: given.separator,
    template: given.template,
    templateFile: given["template-file"],
    note: given.note,
    rewrite: given.rewrite,
    draft: given.draft,
    restart: given.restart,
    limit: number(given, "limit"),
    send: oneOf(given, "send", ["frames", "video"]),
    frames: number(given, "frames"),
    frameSize: number(given, "frame-size"),
    maxTokens: number(given, "max-tokens"),
    temperature: number(given, "temperature"),
    seed: number(given, "seed"),
    body: extraFields(given.body) as RequestOf<"caption-dataset">["body"],
    requestsPerMinute: number(given, "requests-per-minute"),
    concurrency: number(given, "concurrency"),
    timeout: number(given, "timeout"),
    retries: number(given, "retries"),
    extension: given.extension,
  };
}

function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "?";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

type Captioned = Pick<Extract<EventOf<"caption-dataset">, { type: "captioned" }>, "tokens" | "limit">;

const warningWords: Record<"too-long" | "cut", (caption: Captioned) => string> = {
  "too-long": ({ tokens, limit }) => `about ${tokens} tokens; the model reads only the first ${limit}`,
  cut: () => "the answer reached --max-tokens; the caption was cut after its last complete sentence",
};

/** What a person reads of one event. */
function tell(event: EventOf<"caption-dataset">, out: Printer): void {
  switch (event.type) {
    case "note":
      out.say(`note: ${event.text}`);
      break;
    case "plan":
      out.say(
        `${plural(event.todo.length, "item")} to caption, ${event.kept.length} unchanged${event.resumes ? " (resuming)" : ""}`,
      );
      if (event.todo.length > 0) out.progress(`captioned 0 of ${event.todo.length}`);
      break;
    case "retry":
      out.say(`${event.name}: ${event.message}; trying again in ${event.waitSeconds.toFixed(1)} s`);
      break;
    case "captioned":
      for (const warning of event.warnings) out.say(`${event.name}: ${warningWords[warning](event)}`);
      break;
    case "kept":
      out.say(`${event.name}: ${out.inFlags(event.reason)}`);
      break;
    case "failed":
      out.say(
        `${event.name}: error ${event.code}: ${event.message}${event.hint ? ` (${out.inFlags(event.hint)})` : ""}`,
      );
      break;
    case "progress":
      out.progress(
        `captioned ${event.done} of ${event.total}, ${duration(event.seconds)}, about ${duration(event.etaSeconds)} left`,
      );
  }
}

function planText({ todo, kept, prompts: { clip, picture }, requests }: ResultOf<"plan-captions">): string {
  return [
    ...todo,
    ...kept.map(({ name, reason }) => `${name}: unchanged, ${reason}`),
    ...(clip === undefined ? [] : [`\nrequest for a clip:\n${clip}`]),
    ...(picture === undefined ? [] : [`\nrequest for a picture:\n${picture}`]),
    `\n${plural(requests, "request")} would be sent`,
  ].join("\n");
}

async function caption(request: RequestOf<"caption-dataset">, out: Printer): Promise<number> {
  let written = 0;
  const goOn = () => `${plural(written, "item")} captioned so far; run the same command again to continue`;
  let result: ResultOf<"caption-dataset"> | undefined;
  try {
    result = await follow(out, "caption-dataset", request, {
      show(event) {
        if (event.type === "captioned") written++;
        tell(event, out);
      },
      until: () => "pending requests are cancelled",
      stopped: () => ({ value: { stopped: true, captioned: written }, text: `stopped; ${goOn()}` }),
    });
  } catch (error) {
    if (written > 0) out.note(goOn());
    throw error;
  }
  if (!result) return STOPPED;
  const { captioned, failed, kept, requests, seconds, usage } = result;
  out.answer(result, () => captioned.map(({ path, text }) => `${path}: ${text}`).join("\n"));
  const tokens = usage.inputTokens > 0 ? `, ${usage.inputTokens} + ${usage.outputTokens} tokens` : "";
  out.say(
    `${plural(captioned.length, request.draft ? "draft" : "caption")} written, ${failed.length} failed, ${kept.length} unchanged; ${plural(requests, "request")}, ${duration(seconds)}${tokens}`,
  );
  if (request.draft && captioned.length > 0)
    out.say("edit the .draft files, then run: kinora dataset caption DIR --accept");
  return failed.length > 0 ? 1 : 0;
}

async function accept(folder: string, given: Given, out: Printer): Promise<void> {
  const { extension, rewrite, trigger, separator } = given;
  const request = { folder, extension, overwrite: rewrite, trigger, separator };
  const { accepted, kept } = await perform(out, "accept-captions", request, (event) => {
    if (event.type === "note") out.say(`note: ${event.text}`);
    else if (event.type === "kept") out.say(`${event.name}: ${out.inFlags(event.reason)}`);
    else {
      if (event.triggerRestored) out.say(`${event.name}: the trigger phrase was missing and has been added`);
      for (const warning of event.warnings) out.say(`${event.name}: ${warningWords[warning](event)}`);
    }
  });
  out.answer({ accepted, kept }, () => `${plural(accepted.length, "draft")} accepted, ${kept.length} unchanged`);
}

export const datasetCaption = command({
  name: "dataset caption",
  usage: "DIR --endpoint URL|NAME --model NAME [--trigger TEXT] | DIR --accept",
  details,
  flags: { keyVariable: "key-env", overwrite: "rewrite" },
  options,
  async run(given, positionals, out) {
    const [folder, ...more] = positionals;
    if (folder === undefined || more.length > 0)
      throw new KinoraError("cli.bad-arguments", "dataset caption takes one folder", {
        actual: plural(positionals.length, "argument"),
        hint: "kinora dataset caption DIR --endpoint URL --model NAME",
      });
    const conflict = (a: "missing" | "draft" | "dry-run" | "accept", b: "rewrite" | "accept") => {
      if (given[a] && given[b])
        throw new KinoraError("cli.bad-arguments", `--${a} and --${b} cannot be combined`, {
          hint: "give one of them",
        });
    };
    conflict("missing", "rewrite");
    conflict("draft", "accept");
    conflict("dry-run", "accept");
    if (given.accept) {
      await accept(folder, given, out);
      return 0;
    }
    const request = requestOf(folder, given);
    if (given["dry-run"]) {
      const plan = await perform(out, "plan-captions", request, ({ text }) => out.say(`note: ${text}`));
      out.answer(plan, () => planText(plan));
      return 0;
    }
    if (request.endpoint === undefined)
      throw new KinoraError("cli.missing-option", "no endpoint was given", {
        hint: "e.g. --endpoint ollama, or --endpoint http://127.0.0.1:8000/v1",
      });
    if (request.model === undefined)
      throw new KinoraError("cli.missing-option", "no model was given", {
        hint: "e.g. --model qwen2.5vl (Ollama), --model qwen-vl-max (DashScope)",
      });
    return caption(request, out);
  },
});
