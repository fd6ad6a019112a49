// The folder of facts and golden files beside a checkout; tests that need it skip with the reason where it is absent.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("../../../shared/", import.meta.url));

export const sharedFolder: string | undefined = existsSync(`${folder}golden`) ? folder : undefined;
export const whySkipped = "../shared is not beside this checkout";
