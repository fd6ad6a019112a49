// Every reader of bytes that Kinora did not write, or wrote and finds again: a row each, with its share of 10,000 inputs.
import { mediaKinds } from "./kinds/media.ts";
import { storedKinds } from "./kinds/stored.ts";
import { textKinds } from "./kinds/texts.ts";
import { weightKinds } from "./kinds/weights.ts";
import type { Kind } from "./run.ts";

export const kinds: readonly Kind[] = [...weightKinds, ...mediaKinds, ...textKinds, ...storedKinds];
