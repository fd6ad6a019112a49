// What somebody thinks of a film, as an event in the log of each version that the film's recipe names.
import { KinoraError } from "../../base/errors.ts";
import { registryFeedbackContract } from "../../protocol/jobs/registry.ts";
import { formatAddress, parseReference } from "../../registry/address.ts";
import { contentOf } from "../../registry/objects.ts";
import { readRecipe } from "../../sample/recipe.ts";
import { quickJob } from "../job.ts";
import { openStore } from "./open.ts";

export const registryFeedbackJob = quickJob(registryFeedbackContract, async (request, { env }) => {
  const { loras } = await readRecipe(request.film);
  const names = [...new Set(loras.flatMap(({ registry }) => registry ?? []))];
  if (names.length === 0) {
    throw new KinoraError("registry.no-version", `${request.film} was made without a LoRA of a registry`, {
      hint: "feedback is for films of kinora generate --lora registry:ADDRESS",
    });
  }
  const { registry, store } = await openStore(request.store, env);
  const { sha256: film } = await contentOf(request.film);
  const versions = [];
  for (const { address, which } of names.map(parseReference)) {
    await registry.feedback(address, which, request.verdict, { note: request.note, film });
    versions.push({ address: formatAddress(address), version: which });
  }
  return { store, versions };
});
