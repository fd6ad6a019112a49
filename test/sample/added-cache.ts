// A step cache as docs/extending.md describes adding it, a file's worth: every nth step is computed.
import { z } from "zod";
import { defineCache, keptOf } from "../../src/sample/caches/cache.ts";

export const everyNth = defineCache({
  name: "every-nth",
  help: "computes every nth step",
  options: z.strictObject({ threshold: z.number().default(1), n: z.int().min(2).default(2) }),
  create: ({ n }) => ({
    keeps: "pass",
    decide: ({ place: { step }, passes }, memory) =>
      passes.map((pass) => ({ skip: step % n > 0 && memory.has(keptOf(pass)) })),
  }),
});
