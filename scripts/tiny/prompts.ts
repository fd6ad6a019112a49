// The texts kinora-tiny is trained on: the world's captions, some behind words that mean nothing yet, as a trigger
// phrase does before a LoRA gives it a meaning.
import { spareWords } from "./tokenizer.ts";
import { captionOf } from "./world/captions.ts";
import { Draws } from "./world/random.ts";
import type { Scene, SceneAttributes } from "./world/scene.ts";

const LETTERS = [..."abcdefghijklmnopqrstuvwxyz"];

/** One to three words that say nothing of a scene, closed by a comma more often than not. */
function idleWords(draws: Draws): string {
  const word = () =>
    draws.chance(0.6)
      ? draws.pick(spareWords)
      : Array.from({ length: 2 + Math.floor(3 * draws.unit()) }, () => draws.pick(LETTERS)).join("");
  const words = Array.from({ length: 1 + Math.floor(2.2 * draws.unit()) }, word).join(" ");
  return draws.chance(0.8) ? `${words},` : words;
}

export interface TrainingText {
  text: string;
  /** What it says of the scene. */
  says: SceneAttributes;
}

/** Text `variant` of a scene; `idle` is the share that begins with idle words. */
export function trainingText(scene: Scene, seed: number, variant: number, idle: number): TrainingText {
  const { text, says } = captionOf(scene, seed, variant);
  const draws = new Draws(seed, variant + 2 ** 43);
  return { text: draws.chance(idle) ? `${idleWords(draws)} ${text}` : text, says };
}
