// Where the models lie that ship with Kinora. The one place that knows this, for generating, training and planning.
import { fileURLToPath } from "node:url";
import type { WanModel } from "./params.ts";

/** The package's root: this file is as deep in dist/ as it is in src/. */
const root = new URL("../../../", import.meta.url);

/** The folder of a model that ships with Kinora, whether it is there or not; undefined for the published models. */
export function bundledFolder({ name, bundled }: Pick<WanModel, "name" | "bundled">): string | undefined {
  return bundled && fileURLToPath(new URL(`models/${name}`, root));
}
