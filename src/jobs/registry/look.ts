// Jobs that look into a registry and change nothing.
import {
  registryDiffContract,
  registryListContract,
  registryNotesContract,
  registryResolveContract,
  registryShowContract,
  registryVerifyContract,
} from "../../protocol/jobs/registry.ts";
import { checkWhich, formatAddress, parseAddress, parseReference } from "../../registry/address.ts";
import { changelog, differences, trainingNotes } from "../../registry/notes.ts";
import { describeEvent, type NameState, statusOf } from "../../registry/state.ts";
import { verifyStore } from "../../registry/verify.ts";
import { job, quickJob } from "../job.ts";
import { openStore } from "./open.ts";

/** Which version the aliases stand on, without the keys that are absent. */
export function aliasesOf({ current, trial }: NameState): {
  current?: string;
  trial?: NonNullable<NameState["trial"]>;
} {
  return { ...(current === undefined ? {} : { current }), ...(trial === undefined ? {} : { trial }) };
}

export const registryListJob = quickJob(registryListContract, async ({ store: asked, kind }, { env }) => {
  const { registry, store } = await openStore(asked, env);
  const names = [];
  for await (const address of registry.names(kind)) {
    const state = await registry.state(address);
    const latest = [...state.versions.keys()].at(-1);
    if (latest === undefined) continue;
    const { model, triggerWords } = await registry.version(address, state.current ?? latest, state);
    names.push({
      address: formatAddress(address),
      versions: state.versions.size,
      latest,
      ...aliasesOf(state),
      ...(model === undefined ? {} : { model }),
      triggerWords,
    });
  }
  return { store, names };
});

export const registryShowJob = quickJob(registryShowContract, async ({ store: asked, address: text }, { env }) => {
  const { registry, store } = await openStore(asked, env);
  const address = parseAddress(text);
  const state = await registry.state(address);
  const versions = [];
  for (const version of state.versions.values()) {
    const { publishedAt, publishedBy, tests, approvals, feedback, tags } = version;
    versions.push({
      version: version.version,
      status: statusOf(state, version),
      publishedAt,
      publishedBy,
      manifest: await registry.version(address, version.version, state),
      tests: tests.map(({ phase, verdict, at, who, scores }) => ({
        ...{ phase, verdict, at, who },
        ...(scores ? { scores: { ...scores } } : {}),
      })),
      approvals: approvals.map(({ who, at, why }) => ({ who, at, ...(why === undefined ? {} : { why }) })),
      feedback,
      tags: [...tags],
    });
  }
  const events = state.events.map((event) => ({
    number: event.number,
    at: event.at,
    text: describeEvent(event),
    event,
  }));
  return { store, address: formatAddress(address), ...aliasesOf(state), versions, events };
});

export const registryResolveJob = quickJob(registryResolveContract, async (request, { env }) => {
  const { registry, store } = await openStore(request.store, env);
  const { address, version, by, manifest } = await registry.resolve(parseReference(request.reference), request.request);
  const { strength, triggerWords, files } = manifest;
  return { store, address: formatAddress(address), version, by, strength, triggerWords, files };
});

export const registryDiffJob = quickJob(registryDiffContract, async (request, { env }) => {
  const { registry } = await openStore(request.store, env);
  const address = parseAddress(request.address);
  const [before, after] = [checkWhich(request.before), checkWhich(request.after)];
  const state = await registry.state(address);
  return {
    address: formatAddress(address),
    before,
    after,
    differences: differences(
      await registry.version(address, before, state),
      await registry.version(address, after, state),
    ),
  };
});

export const registryVerifyJob = job(registryVerifyContract, async function* ({ store: asked }, { env, signal }) {
  const { registry, store } = await openStore(asked, env);
  const work = verifyStore(registry);
  for (;;) {
    signal.throwIfAborted();
    const next = await work.next();
    if (next.done) return { store, ...next.value };
    yield next.value;
  }
});

export const registryNotesJob = quickJob(registryNotesContract, async ({ store, address }, { env }) => {
  const { registry } = await openStore(store, env);
  const markdown =
    address === undefined ? await changelog(registry) : await trainingNotes(registry, parseAddress(address));
  return { markdown };
});
