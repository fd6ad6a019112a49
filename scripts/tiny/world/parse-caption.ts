// Reads a caption back into the attributes it speaks of, so that prompts people type can be measured. It knows the
// words of the grammar and their order where order means something, not the grammar's whole sentences.
import { KinoraError } from "../../../src/base/errors.ts";
import { backgroundPhrases, cameraPhrases, motionPhrases, sizeWords, speedWords } from "./captions.ts";
import { type BackgroundColor, backgroundColorNames, type ObjectColor, objectColorNames } from "./color.ts";
import type { Camera, Motion, Pattern, SceneAttributes, Size, Speed } from "./scene.ts";
import { type ShapeName, shapeNames } from "./shapes.ts";

const keys = <K extends string>(table: Readonly<Record<K, unknown>>): K[] => Object.keys(table) as K[];
const anyOf = (words: readonly string[]): string => `(?:${words.join("|")})`;

/** Phrases with what they mean, the longest first, so that "in a circle" is not taken for "circle". */
function longestFirst<K extends string>(table: Readonly<Record<K, readonly string[]>>): { phrase: string; means: K }[] {
  return keys(table)
    .flatMap((means) => table[means].map((phrase) => ({ phrase, means })))
    .sort((a, b) => b.phrase.length - a.phrase.length);
}

const bothForms = <K extends string>(table: Readonly<Record<K, readonly { finite: string; participle: string }[]>>) =>
  longestFirst(
    Object.fromEntries(
      keys(table).map((key) => [key, table[key].flatMap(({ finite, participle }) => [finite, participle])]),
    ) as Record<K, string[]>,
  );

const cameraClauses = bothForms(cameraPhrases);
const motionClauses = bothForms(motionPhrases);

/** The words that tell a background's pattern: those of its phrases that plain ones lack. */
const patternWords: Readonly<Record<Exclude<Pattern, "plain">, string[]>> = (() => {
  const wordsOf = (pattern: Pattern) => backgroundPhrases[pattern].flatMap((phrase) => phrase.split(" "));
  const common = new Set([...wordsOf("plain"), "of"]);
  const own = (pattern: Pattern) => wordsOf(pattern).filter((word) => !common.has(word));
  return { striped: own("striped"), checkered: own("checkered"), gradient: own("gradient") };
})();

/** What a caption says, in whole or in part. */
export type SaidAttributes = Partial<Omit<SceneAttributes, "background">> & {
  background?: { color?: BackgroundColor; pattern: Pattern };
};

/** All that can be made out in a caption; what it does not say is left out. */
export function attributesFromCaption(caption: string): SaidAttributes {
  let text = ` ${caption.toLowerCase().replace(/[^a-z]+/g, " ")} `;
  const said: SaidAttributes = {};
  /** Finds a pattern and takes it out of the text. */
  const take = (pattern: string): boolean => {
    const taken = text.replace(new RegExp(` ${pattern} `), " , ");
    const found = taken !== text;
    text = taken;
    return found;
  };
  const camera = cameraClauses.find(({ phrase }) => take(`(?:(?:as|while|and) )?(?:the )?camera ${phrase}`));
  if (camera) said.camera = camera.means as Camera;
  const speed = keys(speedWords).find((name) => {
    const found = text.includes(` ${speedWords[name]} `);
    text = text.replace(` ${speedWords[name]} `, " ");
    return found;
  });
  if (speed) said.speed = speed as Speed;
  const motion = motionClauses.find(({ phrase }) => take(phrase));
  if (motion) said.motion = motion.means as Motion;
  const object = text.match(new RegExp(` (${anyOf(objectColorNames)}) (${anyOf(shapeNames)}) `));
  if (object) {
    said.color = object[1] as ObjectColor;
    said.shape = object[2] as ShapeName;
    text = text.replace(object[0], " , ");
  }
  for (const size of keys(sizeWords)) if (take(anyOf(sizeWords[size]))) said.size = size as Size;
  const color = text.match(new RegExp(` (${anyOf(backgroundColorNames)}) `))?.[1] as BackgroundColor | undefined;
  const pattern = keys(patternWords).find((name) => take(anyOf(patternWords[name])));
  if (color || pattern) said.background = { ...(color ? { color } : {}), pattern: pattern ?? "plain" };
  return said;
}

/**
 * The scene a caption asks for: shape, colour, motion and background it has to say; a camera that is not spoken of
 * stays still. Throws `tiny.caption` naming what is missing.
 */
export function sceneFromCaption(caption: string): SceneAttributes {
  const { shape, color, motion, background, camera = "still", size, speed } = attributesFromCaption(caption);
  if (!shape || !color || !motion || !background?.color) {
    const missing = [
      shape ? [] : [`a shape (${shapeNames.join(", ")}) after its colour (${objectColorNames.join(", ")})`],
      motion
        ? []
        : [
            `a motion (${keys(motionPhrases)
              .map((name) => motionPhrases[name][0]!.finite)
              .join(", ")})`,
          ],
      background?.color ? [] : [`a background's colour (${backgroundColorNames.join(", ")})`],
    ].flat();
    throw new KinoraError("tiny.caption", "the caption does not say all that a scene of the world needs", {
      expected: missing.join("; "),
      actual: JSON.stringify(caption),
      hint: 'for example "a red circle moves to the right on a blue background"',
    });
  }
  return {
    shape,
    color,
    motion,
    background: { color: background.color, pattern: background.pattern },
    camera,
    ...(size ? { size } : {}),
    ...(speed ? { speed } : {}),
  };
}
