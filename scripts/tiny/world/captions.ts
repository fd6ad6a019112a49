// The language of the world: what may be said of a scene, in several natural phrasings, over a small closed vocabulary.
import { backgroundColorNames, objectColorNames } from "./color.ts";
import { Draws } from "./random.ts";
import type { Camera, Motion, Pattern, Scene, SceneAttributes, Size, Speed } from "./scene.ts";
import { shapeNames } from "./shapes.ts";

/** A verb phrase as it is said of a subject ("moves left") and as it is added to one ("moving left"). */
export interface VerbPhrase {
  finite: string;
  participle: string;
}

const verb = (finite: string, participle: string, rest = ""): VerbPhrase => ({
  finite: rest ? `${finite} ${rest}` : finite,
  participle: rest ? `${participle} ${rest}` : participle,
});

const sideways = (side: "left" | "right"): VerbPhrase[] => [
  verb("moves", "moving", `to the ${side}`),
  verb("moves", "moving", side),
  verb("slides", "sliding", side),
  verb("slides", "sliding", `to the ${side}`),
];

export const motionPhrases: Readonly<Record<Motion, readonly VerbPhrase[]>> = {
  left: sideways("left"),
  right: sideways("right"),
  up: [verb("moves", "moving", "up"), verb("rises", "rising"), verb("slides", "sliding", "up")],
  down: [verb("moves", "moving", "down"), verb("falls", "falling"), verb("slides", "sliding", "down")],
  bounce: [verb("bounces", "bouncing"), verb("bounces", "bouncing", "up and down")],
  orbit: [verb("moves", "moving", "in a circle"), verb("circles", "circling", "around")],
  spin: [verb("spins", "spinning"), verb("spins", "spinning", "in place"), verb("rotates", "rotating", "in place")],
  grow: [verb("grows", "growing"), verb("gets", "getting", "bigger")],
  shrink: [verb("shrinks", "shrinking"), verb("gets", "getting", "smaller")],
  still: [verb("stays", "staying", "still"), verb("stands", "standing", "still")],
};

export const speedWords: Readonly<Record<Speed, string>> = { slow: "slowly", fast: "quickly" };
export const sizeWords: Readonly<Record<Size, readonly string[]>> = {
  small: ["small", "little"],
  large: ["large", "big"],
};

/** After a preposition; COLOR stands for the background's colour with its article where one is due. */
export const backgroundPhrases: Readonly<Record<Pattern, readonly string[]>> = {
  plain: ["on a COLOR background", "on a plain COLOR background", "in front of a COLOR wall"],
  striped: ["on a COLOR striped background", "in front of a COLOR striped wall", "on a background of COLOR stripes"],
  checkered: ["on a COLOR checkered background", "in front of a COLOR checkered wall", "on a COLOR checkerboard"],
  gradient: ["on a COLOR gradient background", "on a COLOR gradient", "in front of a COLOR gradient wall"],
};

export const cameraPhrases: Readonly<Record<Camera, readonly VerbPhrase[]>> = {
  "pan-left": [verb("pans", "panning", "left"), verb("pans", "panning", "to the left")],
  "pan-right": [verb("pans", "panning", "right"), verb("pans", "panning", "to the right")],
  "zoom-in": [verb("zooms", "zooming", "in")],
  "zoom-out": [verb("zooms", "zooming", "out")],
  still: [verb("stays", "staying", "still")],
};

/** Whole captions. SUBJECT, MOVES, MOVING, BACKGROUND are filled in; the camera's clause is put around them. */
const frames = [
  "SUBJECT MOVES BACKGROUND",
  "BACKGROUND, SUBJECT MOVES",
  "SUBJECT MOVING BACKGROUND",
  "BACKGROUND, there is SUBJECT MOVING",
  "a video of SUBJECT MOVING BACKGROUND",
] as const;

const cameraFrames = ["CAPTION, the camera MOVES", "CAPTION as the camera MOVES", "the camera MOVES, CAPTION"] as const;

/** How often a caption says what it may leave out. */
const SAID = { size: 0.5, speed: 0.5, stillCamera: 0.1 } as const;

/** "a" or "an" before each word, as its sound asks. */
const withArticles = (text: string): string => text.replace(/\ba (?=orange\b)/g, "an ");

function subject({ shape, color }: SceneAttributes, size: string | undefined): string {
  return `a ${size ? `${size} ` : ""}${color} ${shape}`;
}

/** Adds the speed before or after a verb phrase: "slowly moves left", "moves left slowly". */
function withSpeed(phrase: string, speed: string | undefined, before: boolean): string {
  if (!speed) return phrase;
  return before ? `${speed} ${phrase}` : `${phrase} ${speed}`;
}

/** What a caption says: the scene's attributes, less what it left unsaid. */
export interface Caption {
  text: string;
  says: SceneAttributes;
}

/** One of the many captions of a scene; `variant` picks the phrasing. */
export function captionOf(scene: Scene | SceneAttributes, seed: number, variant: number): Caption {
  const draws = new Draws(seed, variant + 2 ** 41);
  const { shape, color, motion, background, camera } = scene;
  const size = scene.size && draws.chance(SAID.size) ? scene.size : undefined;
  const speed = scene.speed && draws.chance(SAID.speed) ? scene.speed : undefined;
  const action = draws.pick(motionPhrases[motion]);
  const speedBefore = draws.chance(0.5);
  const speedWord = speed && speedWords[speed];
  let text = draws
    .pick(frames)
    .replace("SUBJECT", subject(scene, size && draws.pick(sizeWords[size])))
    .replace("MOVES", withSpeed(action.finite, speedWord, speedBefore))
    .replace("MOVING", withSpeed(action.participle, speedWord, speedBefore))
    .replace("BACKGROUND", draws.pick(backgroundPhrases[background.pattern]).replace("COLOR", background.color));
  if (camera !== "still" || draws.chance(SAID.stillCamera)) {
    const { finite } = draws.pick(cameraPhrases[camera]);
    text = draws.pick(cameraFrames).replace("CAPTION", text).replace("MOVES", finite);
  }
  const says: SceneAttributes = {
    shape,
    color,
    motion,
    background: { color: background.color, pattern: background.pattern },
    camera,
    ...(size ? { size } : {}),
    ...(speed ? { speed } : {}),
  };
  return { text: withArticles(text), says };
}

/** The first phrasing of everything: "a red circle moves to the right on a blue background". */
export function plainCaption({ size, speed, ...scene }: SceneAttributes): string {
  const { motion, background, camera } = scene;
  const action = withSpeed(motionPhrases[motion][0]!.finite, speed && speedWords[speed], false);
  const behind = backgroundPhrases[background.pattern][0]!.replace("COLOR", background.color);
  const ending = camera === "still" ? "" : `, the camera ${cameraPhrases[camera][0]!.finite}`;
  return withArticles(`${subject(scene, size && sizeWords[size][0])} ${action} ${behind}${ending}`);
}

/** Every word a caption of the world can hold, sorted; the comma is the only other sign. */
export function captionVocabulary(): string[] {
  const verbs = [...Object.values(motionPhrases), ...Object.values(cameraPhrases)].flat();
  const phrases = [
    ...verbs.flatMap(({ finite, participle }) => [finite, participle]),
    ...Object.values(backgroundPhrases).flat(),
    ...Object.values(sizeWords).flat(),
    ...Object.values(speedWords),
    ...objectColorNames,
    ...backgroundColorNames,
    ...shapeNames,
    ...frames,
    ...cameraFrames,
    "an",
  ];
  // What is in capitals is filled in.
  return [...new Set(phrases.flatMap((phrase) => phrase.match(/\b[a-z]+\b/g) ?? []))].sort();
}
