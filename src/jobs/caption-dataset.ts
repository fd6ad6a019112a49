// Captions a folder with a vision-language model; says what it would ask; turns edited drafts into captions.
import type { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import { acceptDrafts } from "../dataset/caption/accept.ts";
import { captionFolder, planCaptions } from "../dataset/caption/caption.ts";
import { type CaptionSettings, captionDefaults } from "../dataset/caption/settings.ts";
import { defaultTemplate, promptTemplate, readTemplate } from "../dataset/caption/templates.ts";
import { resolveEndpoint } from "../io/chat/endpoint.ts";
import { type ChatProtocol, chatProtocols } from "../io/chat/wire.ts";
import {
  acceptCaptionsContract,
  type CaptionRequest,
  captionDatasetContract,
  planCaptionsContract,
} from "../protocol/jobs/caption-dataset.ts";
import { JobStopped } from "./errors.ts";
import { job, type Work } from "./job.ts";

/** What an event tells beside its type. */
const plain = <T extends { type: string }>({ type: _type, ...rest }: T): Omit<T, "type"> => rest;

export const captionDatasetJob = job(captionDatasetContract, async function* (request, { env, signal }): Work<
  typeof captionDatasetContract
> {
  const { settings, notices } = await settingsOf(request, env, false);
  for (const text of notices) yield { type: "note", text };
  const result: z.input<(typeof captionDatasetContract)["result"]> = {
    captioned: [],
    failed: [],
    kept: [],
    requests: 0,
    seconds: 0,
    usage: { inputTokens: 0, outputTokens: 0 },
  };
  for await (const event of captionFolder(settings, { signal })) {
    if (event.type === "finished") {
      const { requests, seconds, usage } = event;
      Object.assign(result, { requests, seconds, usage });
      continue;
    }
    if (event.type === "captioned") result.captioned.push(plain(event));
    else if (event.type === "failed") result.failed.push(plain(event));
    else if (event.type === "kept") result.kept.push(plain(event));
    if (event.type !== "plan") {
      yield event;
      continue;
    }
    const { notices: heard, ...plan } = event;
    for (const text of heard) yield { type: "note", text };
    result.kept.push(...plan.kept);
    yield plan;
  }
  if (signal.aborted) throw new JobStopped();
  return result;
});

export const planCaptionsJob = job(planCaptionsContract, async function* (request, { env }): Work<
  typeof planCaptionsContract
> {
  const { settings, notices } = await settingsOf(request, env, true);
  const { notices: heard, ...plan } = await planCaptions(settings);
  for (const text of [...notices, ...heard]) yield { type: "note", text };
  return { ...plan, requests: plan.todo.length };
});

export const acceptCaptionsJob = job(acceptCaptionsContract, async function* (request, { signal }): Work<
  typeof acceptCaptionsContract
> {
  const { folder, extension = captionDefaults.extension, overwrite = false, trigger, separator } = request;
  const result: z.input<(typeof acceptCaptionsContract)["result"]> = { accepted: [], kept: [] };
  const events = acceptDrafts({
    folder,
    extension,
    overwrite,
    ...(trigger === undefined ? {} : { trigger }),
    ...(separator === undefined ? {} : { separator }),
  });
  for await (const event of events) {
    if (event.type === "finished") continue;
    if (event.type === "notice") {
      yield { type: "note", text: event.message };
      continue;
    }
    if (event.type === "accepted") result.accepted.push(plain(event));
    else result.kept.push(plain(event));
    yield event;
    signal.throwIfAborted();
  }
  return result;
});

function protocolOf(name: string): ChatProtocol {
  const found = chatProtocols.find((known) => known === name);
  if (found) return found;
  const near = nearestName(name, chatProtocols);
  throw new KinoraError("caption.bad-setting", `unknown protocol ${JSON.stringify(name)}`, {
    expected: chatProtocols.join(", "),
    hint: near ? `did you mean ${near}?` : "choose one of these",
  });
}

/** `dry`: nothing will be sent, so neither endpoint, model nor key need be there. */
async function settingsOf(
  request: CaptionRequest,
  env: NodeJS.ProcessEnv,
  dry: boolean,
): Promise<{ settings: CaptionSettings; notices: string[] }> {
  const { endpoint, model, protocol, keyVariable, separator, seed, limit, requestsPerMinute, body } = request;
  if (endpoint === undefined && !dry)
    throw new KinoraError("request.missing-option", "no endpoint was given", {
      hint: "e.g. ollama, or http://127.0.0.1:8000/v1",
    });
  if (model === undefined && !dry)
    throw new KinoraError("request.missing-option", "no model was given", {
      hint: "e.g. qwen2.5vl (Ollama), qwen-vl-max (DashScope)",
    });
  const { template, notices } =
    request.templateFile === undefined
      ? { template: promptTemplate(request.template ?? defaultTemplate), notices: [] }
      : await readTemplate(request.templateFile);
  const settings: CaptionSettings = {
    folder: request.folder,
    endpoint: resolveEndpoint(
      {
        endpoint: endpoint ?? "ollama",
        withoutKey: dry,
        ...(protocol === undefined ? {} : { protocol: protocolOf(protocol) }),
        ...(keyVariable === undefined ? {} : { keyVariable }),
      },
      env,
    ),
    model: model ?? "a model",
    template,
    trigger: request.trigger?.trim() ?? captionDefaults.trigger,
    note: request.note ?? captionDefaults.note,
    mode: request.rewrite ? "rewrite" : "missing",
    draft: request.draft ?? captionDefaults.draft,
    send: request.send ?? captionDefaults.send,
    frames: request.frames ?? captionDefaults.frames,
    side: request.frameSize ?? captionDefaults.side,
    maxTokens: request.maxTokens ?? captionDefaults.maxTokens,
    temperature: request.temperature ?? captionDefaults.temperature,
    timeoutSeconds: request.timeout ?? captionDefaults.timeoutSeconds,
    retries: request.retries ?? captionDefaults.retries,
    concurrency: request.concurrency ?? captionDefaults.concurrency,
    extension: request.extension ?? captionDefaults.extension,
    restart: request.restart ?? false,
    ...(separator === undefined ? {} : { separator }),
    ...(seed === undefined ? {} : { seed }),
    ...(limit === undefined ? {} : { limit }),
    ...(requestsPerMinute === undefined ? {} : { requestsPerMinute }),
    ...(body === undefined ? {} : { extra: body }),
  };
  return { settings, notices };
}
