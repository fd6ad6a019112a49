// Captions a folder of clips and pictures with a vision-language model: plans, asks, checks, writes, tells.
// The events are all there is to see; nothing is printed here.
import { randomUUID } from "node:crypto";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { pool } from "../../base/parallel.ts";
import { ChatClient } from "../../io/chat/client.ts";
import { mayRetry, stopsEverything } from "../../io/chat/failures.ts";
import type { ChatAnswer, ChatPart } from "../../io/chat/wire.ts";
import { probe } from "../../io/video/probe.ts";
import { cleanAnswer, cutToSentence, estimateTokens, isRefusal, withoutThoughts, withTrigger } from "./caption-text.ts";
import { type CaptionItem, readCaptionFolder } from "./folder.ts";
import { Journal, type JournalRecord, readJournal, textHash, unfinishedRewrite } from "./journal.ts";
import { show } from "./media.ts";
import { type CaptionSettings, checkSettings, settingsHash } from "./settings.ts";
import { replaceCaption, writeNewCaption } from "./store.ts";
import { namesTrigger, renderPrompt } from "./templates.ts";

export interface KeptItem {
  name: string;
  reason: string;
}

/** What will be asked, and of what. */
export interface CaptionPlan {
  folder: string;
  /** Names of the items to be captioned: one request each, further tries not counted. */
  todo: string[];
  kept: KeptItem[];
  /** The instruction as the first clip and the first picture would get it. */
  prompts: { clip?: string; picture?: string };
  /** True where an interrupted rewrite goes on. */
  resumes: boolean;
  /** What whoever wrote the texts that are there should hear. */
  notices: string[];
}

export type CaptionWarning = "too-long" | "cut";

/** What captioning tells on its way. */
export type CaptionEvent =
  | ({ type: "plan" } & CaptionPlan)
  | { type: "retry"; name: string; attempt: number; waitSeconds: number; code: string; message: string }
  | {
      type: "captioned";
      name: string;
      path: string;
      text: string;
      /** Estimated tokens of the text encoder, and how many of them the model reads. */
      tokens: number;
      limit: number;
      warnings: CaptionWarning[];
      /** Where the previous text was kept. */
      backup?: string;
    }
  | ({ type: "kept" } & KeptItem)
  | { type: "failed"; name: string; code: string; message: string; hint?: string }
  | { type: "progress"; done: number; total: number; seconds: number; etaSeconds: number }
  | {
      type: "finished";
      captioned: number;
      failed: number;
      kept: number;
      requests: number;
      seconds: number;
      usage: Usage;
    };

export interface Usage {
  inputTokens: number;
  outputTokens: number;
}

interface Work {
  todo: CaptionItem[];
  plan: CaptionPlan;
  run: string;
  textLength: number;
}

/** Whether an interrupted rewrite has done this item: its text is no longer the one from before. */
function isDone(item: CaptionItem, draft: boolean, record: Extract<JournalRecord, { event: "caption" }> | undefined) {
  if (!record) return false;
  const current = draft ? item.draft : item.caption;
  if (current !== undefined && textHash(current) !== record.before) return true;
  return item.caption !== undefined && textHash(item.caption) === record.after;
}

async function prepare(settings: CaptionSettings): Promise<Work> {
  checkSettings(settings);
  const { folder, mode, draft } = settings;
  const { items, left, notices, textLength } = await readCaptionFolder(folder, settings);
  const unfinished =
    mode === "rewrite" && !settings.restart
      ? unfinishedRewrite(await readJournal(folder), settingsHash(settings))
      : undefined;
  const kept: KeptItem[] = left.map(({ name, reason }) => ({ name, reason }));
  let todo: CaptionItem[] = [];
  for (const item of items) {
    const { name } = item;
    if (mode === "rewrite") {
      if (isDone(item, draft, unfinished?.done.get(name)))
        kept.push({ name, reason: "rewritten before the interruption" });
      else todo.push(item);
    } else if (item.caption !== undefined) kept.push({ name, reason: "has a caption" });
    else if (item.draft !== undefined) kept.push({ name, reason: "has a draft waiting to be accepted" });
    else todo.push(item);
  }
  if (settings.limit !== undefined) {
    for (const { name } of todo.slice(settings.limit)) kept.push({ name, reason: "beyond the limit" });
    todo = todo.slice(0, settings.limit);
  }
  const plan: CaptionPlan = {
    folder,
    todo: todo.map((item) => item.name),
    kept,
    prompts: await examplePrompts(todo, settings),
    resumes: unfinished !== undefined && unfinished.done.size > 0,
    notices,
  };
  return { todo, plan, run: unfinished?.run ?? randomUUID(), textLength };
}

async function examplePrompts(
  todo: readonly CaptionItem[],
  settings: CaptionSettings,
): Promise<CaptionPlan["prompts"]> {
  const { template, trigger, note } = settings;
  const prompts: CaptionPlan["prompts"] = {};
  const clip = todo.find(({ media }) => media.medium === "clip")?.media;
  if (clip) {
    const duration = async () => (await probe(clip.path).catch(() => undefined))?.duration ?? 0;
    const seconds = (clip.end ?? (await duration())) - (clip.start ?? 0);
    const frames = settings.send === "frames" ? { frames: settings.frames } : {};
    prompts.clip = renderPrompt(template, "clip", { trigger, note, seconds, ...frames });
  }
  if (todo.some(({ media }) => media.medium === "picture"))
    prompts.picture = renderPrompt(template, "picture", { trigger, note });
  return prompts;
}

/**
 * What `captionFolder` would do, without asking anyone.
 * @throws KinoraError `caption.bad-setting`, `caption.no-media`, `dataset.no-folder`, `dataset.unreadable`.
 */
export async function planCaptions(settings: CaptionSettings): Promise<CaptionPlan> {
  return (await prepare(settings)).plan;
}

interface Composed {
  text: string;
  tokens: number;
  warnings: CaptionWarning[];
}

/** Forty times what the text encoder reads. */
const mostCharacters = 20_000;

/** From an answer to the caption. Undefined where it says nothing, or letters are lost in it. Throws where the model declined. */
function compose(answer: ChatAnswer, settings: CaptionSettings, textLength: number): Composed | undefined {
  const said = withoutThoughts(answer.text);
  if (said.length > mostCharacters)
    throw new KinoraError("caption.runaway", "the model's answer is not a caption", {
      actual: `${said.length} characters, beginning ${JSON.stringify(said.slice(0, 60))}`,
      hint: "lower `maxTokens`; small models tend to repeat themselves, especially at low temperatures",
    });
  // A letter cut in two by the server.
  if (said.includes("\ufffd")) return undefined;
  const cleaned = cleanAnswer(said);
  if (answer.finish === "refused" || isRefusal(cleaned))
    throw new KinoraError("caption.refused", "the model declined to describe this item", {
      ...(answer.refusal || cleaned ? { actual: `"${(answer.refusal ?? cleaned).slice(0, 160)}"` } : {}),
      hint: "write this caption by hand, or try another model or template",
    });
  const cut = answer.finish === "length";
  const text = withTrigger(cut ? cutToSentence(cleaned) : cleaned, settings.trigger, {
    separator: settings.separator ?? settings.template.separator,
    inside: namesTrigger(settings.template) ? "keep" : "remove",
  });
  if (!/[\p{L}\p{N}]/u.test(text)) return undefined;
  const tokens = estimateTokens(text);
  const warnings: CaptionWarning[] = [];
  if (tokens > textLength) warnings.push("too-long");
  if (cut) warnings.push("cut");
  return { text, tokens, warnings };
}

function emptyAnswer(answer: ChatAnswer): KinoraError {
  if (answer.text.includes("\ufffd"))
    return new KinoraError("caption.garbled", "the model's answer contains replacement characters (U+FFFD)", {
      actual: JSON.stringify(answer.text.slice(0, 160)),
      hint: "write this caption by hand, or try another server: this one splits multi-byte characters",
    });
  return new KinoraError("caption.empty-answer", "the model's answer is empty", {
    hint:
      answer.finish === "length"
        ? "it used all its tokens for thinking: raise `maxTokens`, or switch thinking off with `body`"
        : "try another model, or fewer frames: their tokens may fill its context",
  });
}

/** After this many items in a row whose every try failed, the endpoint is not worth waiting for. */
const mostFailuresInRow = 5;

/** The answer for one item, with its retries told. An empty answer is asked for once more. */
async function ask(
  client: ChatClient,
  item: CaptionItem,
  { settings, textLength }: { settings: CaptionSettings; textLength: number },
  emit: (event: CaptionEvent) => void,
  signal: AbortSignal,
): Promise<{ composed: Composed; usage: Usage }> {
  const { template, trigger, note, model, maxTokens, temperature, seed, extra } = settings;
  const { name, media } = item;
  const { part, ...shown } = await show(media, { ...settings, signal });
  const prompt = renderPrompt(template, media.medium, { trigger, note, ...shown });
  const parts: ChatPart[] = [part, { type: "text", text: prompt }];
  const usage: Usage = { inputTokens: 0, outputTokens: 0 };
  for (let turn = 1; ; turn++) {
    const answer = await client.complete(
      {
        model,
        parts,
        maxTokens,
        temperature,
        ...(seed === undefined ? {} : { seed }),
        ...(extra === undefined ? {} : { extra }),
      },
      {
        signal,
        onRetry: ({ attempt, waitSeconds, error: { code, message } }) =>
          emit({ type: "retry", name, attempt, waitSeconds, code, message }),
      },
    );
    usage.inputTokens += answer.usage?.input ?? 0;
    usage.outputTokens += answer.usage?.output ?? 0;
    const composed = compose(answer, settings, textLength);
    if (composed) return { composed, usage };
    if (turn === 2 || answer.finish === "length") throw emptyAnswer(answer);
  }
}

/** Writes the text where the settings say. Undefined where a caption has come to be that must not be touched. */
async function write(
  { captionPath, copyPath, draftPath }: CaptionItem,
  text: string,
  { draft, mode }: CaptionSettings,
): Promise<{ path: string; backup?: string } | undefined> {
  const path = draft ? draftPath : captionPath;
  const replace = mode === "rewrite";
  let backup: string | undefined;
  if (replace) backup = await replaceCaption(path, text);
  else if (!(await writeNewCaption(path, text))) return undefined;
  if (!draft && copyPath) await (replace ? replaceCaption : writeNewCaption)(copyPath, text);
  return { path, ...(backup === undefined ? {} : { backup }) };
}

/**
 * Captions a folder. Each text is written as soon as it is there, whole or not at all: after a kill the same call goes
 * on with what is left. Existing captions are touched only in `rewrite`, and kept as backups then.
 *
 * @throws KinoraError as `planCaptions`; what makes every request fail (`chat.unreachable`, `chat.unauthorized`,
 * `chat.quota`, `chat.model-not-found`, `chat.wrong-endpoint`, `chat.no-vision`); `caption.giving-up`; `io.*` where
 * nothing can be written. What goes wrong with one item is an event.
 */
export async function* captionFolder(
  settings: CaptionSettings,
  { signal }: { signal?: AbortSignal } = {},
): AsyncGenerator<CaptionEvent> {
  const { todo, plan, run, textLength } = await prepare(settings);
  yield { type: "plan", ...plan };

  const began = performance.now();
  const elapsed = () => (performance.now() - began) / 1000;
  const client = new ChatClient(settings);
  const journal = new Journal(settings.folder);
  const usage: Usage = { inputTokens: 0, outputTokens: 0 };
  let captioned = 0;
  let failed = 0;
  let failuresInRow = 0;
  let kept = plan.kept.length;
  const at = () => new Date().toISOString();

  let begun = plan.resumes;
  const begin = () => {
    if (begun) return;
    begun = true;
    const { endpoint, model, template, trigger, mode, draft } = settings;
    const names = { endpoint: endpoint.url, model, template: template.name, trigger };
    journal.append({ event: "begin", run, at: at(), settings: settingsHash(settings), ...names, mode, draft });
  };

  const captionOne = async (item: CaptionItem, emit: (event: CaptionEvent) => void, stop: AbortSignal) => {
    const { name } = item;
    const { composed, usage: spent } = await ask(client, item, { settings, textLength }, emit, stop);
    usage.inputTokens += spent.inputTokens;
    usage.outputTokens += spent.outputTokens;
    const { text, tokens, warnings } = composed;
    const before = settings.draft ? item.draft : item.caption;
    begin();
    journal.append({
      event: "caption",
      run,
      at: at(),
      item: name,
      after: textHash(text),
      ...(before === undefined ? {} : { before: textHash(before) }),
    });
    const written = await write(item, text, settings);
    if (written) {
      captioned++;
      emit({ type: "captioned", name, text, tokens, limit: textLength, warnings, ...written });
    } else {
      kept++;
      emit({ type: "kept", name, reason: "was captioned by another program in the meantime" });
    }
  };

  const work = async (item: CaptionItem, emit: (event: CaptionEvent) => void, stop: AbortSignal) => {
    try {
      await captionOne(item, emit, stop);
      failuresInRow = 0;
    } catch (error) {
      stop.throwIfAborted();
      if (!isKinoraError(error) || error.code.startsWith("io.")) throw error;
      if (stopsEverything(error)) throw await client.withKnownModels(error, settings.model, stop);
      const { code, message, hint } = error;
      failed++;
      emit({ type: "failed", name: item.name, code, message, ...(hint ? { hint } : {}) });
      failuresInRow = mayRetry(error) ? failuresInRow + 1 : 0;
      if (failuresInRow >= mostFailuresInRow)
        throw new KinoraError(
          "caption.giving-up",
          `${failuresInRow} items in a row got no answer; the last: ${message}`,
          {
            hint: "run the same command again once the endpoint works: finished work is kept",
          },
        );
    }
    const done = captioned + failed + (kept - plan.kept.length);
    const seconds = elapsed();
    const etaSeconds = (seconds / done) * (todo.length - done);
    emit({ type: "progress", done, total: todo.length, seconds, etaSeconds });
  };

  yield* pool(todo, settings.concurrency, work, signal);
  // A rewrite with failures stays open: the next one takes up just those.
  if (begun && failed === 0 && settings.limit === undefined) journal.append({ event: "end", run, at: at() });
  yield { type: "finished", captioned, failed, kept, requests: client.requests, seconds: elapsed(), usage };
}
