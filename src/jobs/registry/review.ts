// How the versions of a registry fared in a month.
import { registryReviewContract } from "../../protocol/jobs/registry.ts";
import { monthOf } from "../../registry/records.ts";
import { prometheusText, reviewStore } from "../../registry/review.ts";
import { quickJob } from "../job.ts";
import { openStore } from "./open.ts";
import { reviewPage } from "./review-page.ts";

export const registryReviewJob = quickJob(registryReviewContract, async ({ store: asked, month: given }, { env }) => {
  const { registry, store } = await openStore(asked, env);
  const month = given ?? monthOf(new Date());
  // Through JSON, so that what is not known is absent.
  const versions = JSON.parse(JSON.stringify(await reviewStore(registry, month))) as Awaited<
    ReturnType<typeof reviewStore>
  >;
  return { store, month, versions, prometheus: prometheusText(versions), html: reviewPage(month, versions) };
});
