// Jobs that change a registry: each change is one event in the log of a LoRA, or one file of the store.
import type { z } from "zod";
import { KinoraError } from "../../base/errors.ts";
import {
  registryChangeContract,
  registryCollectContract,
  registryExportContract,
  registryInitContract,
  registryPeopleContract,
} from "../../protocol/jobs/registry.ts";
import type { RegistryPolicy, RoleName } from "../../protocol/registry.ts";
import { type Address, formatAddress, parseAddress } from "../../registry/address.ts";
import { deployStore } from "../../registry/deploy.ts";
import { storageAt, storePlace } from "../../registry/open.ts";
import { Registry } from "../../registry/registry.ts";
import { whoAmI } from "../../registry/rights.ts";
import { describeEvent } from "../../registry/state.ts";
import { collectGarbage } from "../../registry/verify.ts";
import { job, quickJob } from "../job.ts";
import { aliasesOf } from "./look.ts";
import { openStore, personData } from "./open.ts";

type Change = z.output<typeof registryChangeContract.request>["change"];

export const registryInitJob = quickJob(registryInitContract, async ({ store: asked }, { env }) => {
  const store = storePlace(asked, env);
  const { registry, made } = await Registry.init(storageAt(store, env), whoAmI(env));
  return { store, made, person: personData(registry.person) };
});

export const registryChangeJob = quickJob(registryChangeContract, async (request, { env }) => {
  const { registry, store } = await openStore(request.store, env);
  const address = parseAddress(request.address);
  const written: string[] = [];
  registry.onEvent((_address, event) => written.push(describeEvent(event)));
  await apply(registry, address, request.change);
  return { store, address: formatAddress(address), ...aliasesOf(await registry.state(address)), written };
});

async function apply(registry: Registry, address: Address, change: Change): Promise<unknown> {
  switch (change.action) {
    case "approve":
      return registry.approve(address, change.version, change.why);
    case "promote":
      return registry.promote(address, change.version, change.why ?? "", change.force);
    case "trial":
      return registry.trial(address, change.version, change.share, change.why);
    case "end-trial":
      return registry.endTrial(address, change.why);
    case "deprecate":
      return registry.deprecate(address, change.version, change.why, change.replacedBy);
    case "roll-back":
      return registry.rollback(address, change.why ?? "", change.to);
    case "tag":
      return registry.tag(address, change.version, change.tags);
    case "note":
      return registry.note(address, change.text, change.version);
    case "feedback":
      return registry.feedback(address, change.version, change.verdict, { note: change.note });
  }
}

export const registryCollectJob = quickJob(registryCollectContract, async ({ store: asked, dryRun }, { env }) => {
  const { registry, store } = await openStore(asked, env);
  return { store, ...(await collectGarbage(registry, { dryRun: dryRun ?? false })) };
});

export const registryExportJob = job(registryExportContract, async function* (request, { env, signal }) {
  const { registry, store } = await openStore(request.store, env);
  const { out, kind, versions = "all" } = request;
  const work = deployStore(registry, out, { kind, versions });
  let written = 0;
  for (;;) {
    signal.throwIfAborted();
    const next = await work.next();
    if (next.done) return { store, out, files: next.value.files, written };
    if (next.value.written) written++;
    yield next.value;
  }
});

export const registryPeopleJob = quickJob(registryPeopleContract, async (request, { env }) => {
  let { registry, store } = await openStore(request.store, env);
  if (request.set || request.others) {
    const before = await registry.policy();
    const people: Record<string, RoleName> = { ...before?.people };
    for (const [who, role] of Object.entries(request.set ?? {})) {
      if (role === null && !(who in people)) {
        throw new KinoraError("registry.unknown-person", `${who} has no role to remove`, {
          hint: `people with roles: ${Object.keys(people).join(", ") || "none"}`,
        });
      }
      if (role === null) delete people[who];
      else people[who] = role;
    }
    const policy: RegistryPolicy = {
      kind: "kinora.registry.policy",
      people,
      others: request.others ?? before?.others ?? "none",
    };
    await registry.setPolicy(policy);
    ({ registry, store } = await openStore(request.store, env));
  }
  const policy = await registry.policy();
  return {
    store,
    person: personData(registry.person),
    people: policy?.people ?? {},
    others: policy?.others ?? "admin",
    policy: policy !== undefined,
  };
});
