// What a vision-language model is asked for, per goal of the training: the instruction texts and how they are filled.
import { KinoraError } from "../../base/errors.ts";
import { nearestName } from "../../base/nearest.ts";
import { noticeOf, readText } from "../../io/text/read.ts";

/** An instruction to a captioning model. */
export interface PromptTemplate {
  name: string;
  /** For the list in the help. */
  summary: string;
  /** The instruction for a clip. */
  clip: string;
  /** The instruction for a still picture. */
  picture: string;
  /** Between the trigger phrase and the caption, where the trigger does not end in punctuation. */
  separator: string;
}

/** What may stand in braces in a template. */
export interface PromptValues {
  /** The trigger phrase; empty where there is none. */
  trigger: string;
  /** What the person adds about the set, e.g. who is to be seen. */
  note: string;
  /** Frames shown of a clip; absent where the video itself is, and for a picture. */
  frames?: number;
  /** Length of the clip; absent for a picture. */
  seconds?: number;
}

const form =
  'Write one paragraph of plain English in the present tense, 80 to 120 words, and nothing else: no title, no list, no markdown, no remarks about yourself or about this request. Start directly with what is seen, never with words such as "the video" or "this picture". State only what can be seen; do not guess names, brands, sounds or what happened before or after.';

const shortForm = form.replace("80 to 120 words", "40 to 60 words");

const camera = "how the camera behaves (static, pan, tilt, zoom, dolly, handheld, tracking) and how fast things move";

// Wording is ours. The four things to cover, and one paragraph for both media, are in the manner of the author of
// the Studio Ghibli LoRA for Wan 2.1: https://civitai.com/models/1404755
const sceneParts =
  "First the content: who or what is there, what they look like and wear, what they do. Then the environment and its lighting: place, time of day, weather, where the light comes from and its colour. Then the type of shot: distance, angle, framing, depth of field.";

const table = [
  {
    name: "scene",
    summary: "content, environment and lighting, shot type, atmosphere; one paragraph (the default)",
    separator: ". ",
    clip: `Describe this clip in full for someone who must film it again. {view} ${sceneParts} Name ${camera}. End with the atmosphere and mood. {note} ${form}`,
    picture: `Describe this picture in full for someone who must stage it again. ${sceneParts} End with the atmosphere and mood. {note} ${form}`,
  },
  {
    name: "scene-short",
    summary: "the same four things in 40 to 60 words",
    separator: ". ",
    clip: `Sum this clip up for someone who must find it among thousands. {view} One sentence each on its content (subject, looks, action from beginning to end), on the environment and its lighting, on the type of shot with ${camera}, and on the atmosphere. {note} ${shortForm}`,
    picture: `Sum this picture up for someone who must find it among thousands. One sentence each on its content (subject, looks, action), on the environment and its lighting, on the type of shot, and on the atmosphere. {note} ${shortForm}`,
  },
  {
    name: "character",
    summary: "one person or creature: everything but the looks that the trigger stands for",
    separator: ", ",
    clip: `Describe this clip of a character. {view} Do not describe what never changes about the character (face, eyes, hair, skin, build, age) and give no name: write "the character". Do describe clothes and accessories, pose, gestures, expression, what the character does from the beginning to the end, everyone and everything else, the place and its light, the type of shot, and ${camera}. {note} ${form}`,
    picture: `Describe this picture of a character. Do not describe what never changes about the character (face, eyes, hair, skin, build, age) and give no name: write "the character". Do describe clothes and accessories, pose, gesture, expression, everyone and everything else, the place and its light, and the type of shot. {note} ${form}`,
  },
  {
    name: "style",
    summary: "a look: what is shown, never how it is drawn or filmed, so that the trigger learns the look",
    separator: ". ",
    clip: `Describe what this clip shows. {view} ${sceneParts} Name ${camera}. End with the mood. Do not name or describe the art style, the technique, the medium, the studio, the artist or the quality of the picture: neither "animated", "drawn", "painted" nor "photorealistic". {note} ${form}`,
    picture: `Describe what this picture shows. ${sceneParts} End with the mood. Do not name or describe the art style, the technique, the medium, the studio, the artist or the quality of the picture: neither "animated", "drawn", "painted" nor "photorealistic". {note} ${form}`,
  },
  {
    name: "motion",
    summary: "a movement or an effect: what moves, from where to where, and the camera; looks in few words",
    separator: ". ",
    clip: `Describe the movement in this clip. {view} Say in a few words what is there, then in order of time what moves, which part of it, in which direction, how far, how fast, whether it speeds up, stops or repeats, what it does to other things, and how it ends. Say ${camera}. Light and place in half a sentence. {note} ${form}`,
    picture: `Describe the moment of movement this picture holds: what is there, its pose, the direction it is about to move in or has moved from, and what stays still. Light and place in half a sentence. {note} ${form}`,
  },
  {
    name: "domain",
    summary: "a subject field (products, surgery, machines, sports): exact terms, parts, order of events",
    separator: ". ",
    clip: `Describe this clip for specialists of its field. {view} Use the exact terms of the field for objects, parts, materials, tools and actions. Say what is done with what, in order of time, with the relations in space (left, right, above, in front), colours and surfaces, then the setting and light, the type of shot, and ${camera}. {note} ${form}`,
    picture: `Describe this picture for specialists of its field. Use the exact terms of the field for objects, parts, materials and tools. Give the relations in space (left, right, above, in front), colours and surfaces, then the setting and light, and the type of shot. {note} ${form}`,
  },
] as const satisfies readonly PromptTemplate[];

/** The instructions that come with Kinora. */
export const promptTemplates: readonly PromptTemplate[] = table;
export const defaultTemplate = "scene";

/** The built-in template of that name. Error: `caption.unknown-template`. */
export function promptTemplate(name: string): PromptTemplate {
  const found = promptTemplates.find((template) => template.name === name);
  if (found) return found;
  const names = promptTemplates.map((template) => template.name);
  const near = nearestName(name, names);
  throw new KinoraError("caption.unknown-template", `no prompt was given template named "${name}"`, {
    expected: `one of ${names.join(", ")}`,
    hint: near ? `did you mean ${near}?` : "use `templateFile` for your own template",
  });
}

const placeholders = ["trigger", "note", "view"];

/**
 * A person's own template: the text itself, or two sections headed by `[clip]` and `[picture]` on lines of their own.
 * `{trigger}`, `{note}` and `{view}` (what the model is shown of a clip) are filled in. Error: `caption.bad-template`.
 */
export function parseTemplate(text: string, name: string): PromptTemplate {
  const sections: Record<string, string[]> = {};
  let current = "both";
  for (const line of text.split(/\r\n?|\n/)) {
    const heading = /^\s*\[(clip|picture)\]\s*$/.exec(line)?.[1];
    if (heading) current = heading;
    else {
      sections[current] ??= [];
      sections[current]!.push(line);
    }
  }
  const section = (key: string) => (sections[key] ?? []).join("\n").trim();
  const clip = section("clip") || section("both");
  const picture = section("picture") || section("both");
  if (!clip || !picture)
    throw new KinoraError(
      "caption.bad-template",
      `the template ${name} has no instruction for ${clip ? "pictures" : "clips"}`,
      {
        hint: "write the instruction as plain text, or under [clip] and [picture]",
      },
    );
  for (const [, found] of `${clip} ${picture}`.matchAll(/\{(\w+)\}/g)) {
    if (placeholders.includes(found!)) continue;
    const near = nearestName(found!, placeholders);
    throw new KinoraError("caption.bad-template", `the template ${name} uses {${found}}`, {
      expected: placeholders.map((placeholder) => `{${placeholder}}`).join(", "),
      hint: near ? `did you mean {${near}}?` : "use one of these, or leave the braces out",
    });
  }
  return { name, summary: "from a file", clip, picture, separator: ". " };
}

/** Reads a template from a file. Throws `io.*`, `text.*`, `caption.bad-template`. */
export async function readTemplate(file: string): Promise<{ template: PromptTemplate; notices: string[] }> {
  const read = await readText(file);
  return { template: parseTemplate(read.text, file), notices: noticeOf(file, read) };
}

/** Tells the model that several pictures are one clip, and how long it is. */
function view({ frames, seconds }: PromptValues): string {
  if (seconds === undefined) return "";
  const length = `${seconds.toFixed(1)} seconds`;
  return frames === undefined
    ? `The clip lasts ${length}: describe it from its beginning to its end.`
    : `The pictures are ${frames} frames taken evenly from one clip of ${length}, in order: describe the clip as a whole and what changes in it, never the single frames.`;
}

/** The instruction for one item. */
export function renderPrompt(template: PromptTemplate, medium: "clip" | "picture", values: PromptValues): string {
  const texts: Record<string, string> = { trigger: values.trigger, note: values.note.trim(), view: view(values) };
  return template[medium]
    .replace(/\{(\w+)\}/g, (whole, name: string) => texts[name] ?? whole)
    .replace(/[ \t]{2,}/g, " ")
    .trim();
}

/** Whether the instruction has the model use the trigger inside sentences. */
export function namesTrigger(template: PromptTemplate): boolean {
  return `${template.clip} ${template.picture}`.includes("{trigger}");
}
