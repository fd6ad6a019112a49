// From what a model answered to what stands in a caption file: one plain paragraph, the trigger phrase first and once.
// Also what an answer may not be: empty or a refusal.
import { stripVTControlCharacters } from "node:util";

const scripts = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Thai}]/u;

/**
 * Tokens of UMT5, estimated without its vocabulary and on the high side: a word of up to six letters is one, a longer
 * one another for each further four, a sign one, a letter of the scripts written without spaces one.
 */
export function estimateTokens(text: string): number {
  let tokens = 1;
  for (const [piece] of text.matchAll(/[\p{L}\p{M}\p{N}]+|[^\s\p{L}\p{M}\p{N}]/gu)) {
    if (scripts.test(piece)) tokens += [...piece].length;
    else tokens += piece.length <= 6 ? 1 : 1 + Math.ceil((piece.length - 6) / 4);
  }
  return tokens;
}

/** What no caption needs, and a terminal or an editor that shows it would obey: controls, turned writing directions. */
const controls = /(?!\s)[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu;

/** What a model thought aloud is taken out. */
export function withoutThoughts(answer: string): string {
  const kept: string[] = [];
  let from = 0;
  let open = -1;
  for (const { 0: tag, index } of answer.matchAll(/<\/?think(?:ing)?>/gi)) {
    if (!tag.startsWith("</")) {
      if (open < 0) open = index;
      continue;
    }
    // Some servers cut the opening tag off: then all before is thought.
    if (open < 0) kept.length = 0;
    else kept.push(answer.slice(from, open));
    from = index + tag.length;
    open = -1;
  }
  return [...kept, answer.slice(from)].join("");
}

/** Takes off what models wrap around a caption: thoughts, preambles, markdown, quotes, line breaks, control characters. */
export function cleanAnswer(answer: string): string {
  let text = withoutThoughts(stripVTControlCharacters(answer))
    .replace(controls, "")
    .normalize("NFC")
    .replace(/```[a-z]*\n?|```/gi, "")
    .replace(/^[ \t]*#{1,6}[ \t]+.*$/gm, (heading) =>
      answer.trim() === heading.trim() ? heading.replace(/^[ \t]*#+[ \t]+/, "") : "",
    )
    .replace(/^[ \t]*([-*•]|\d+[.)])[ \t]+/gm, "")
    .replace(/(\*\*|__)(?=\S)([\s\S]*?\S)\1/g, "$2")
    .replace(/(?<![\p{L}\p{N}*])\*(?=\S)([^*\n]*?\S)\*(?![\p{L}\p{N}*])/gu, "$1")
    .replace(/\s+/g, " ")
    .trim();
  for (;;) {
    const shorter = text
      .replace(/^(sure( thing)?|certainly|of course|okay|ok|absolutely|here you go)\s*[.!:,]\s*/i, "")
      .replace(
        /^(here('s| is| are)|below is|this is)\b[^.:]{0,80}\b(caption|description|paragraph|prompt)\b[^.:]{0,60}:\s*/i,
        "",
      )
      .replace(/^(video |image |the )?(caption|description)\s*:\s*/i, "")
      .replace(/^(["'“”‘’«])([\s\S]*)(["'“”‘’»])$/u, (whole, open: string, inner: string, close: string) =>
        quotePairs[open] === close && !/["'“”‘’«»]/u.test(inner.replace(/(?<=\p{L})['’](?=\p{L})/gu, ""))
          ? inner
          : whole,
      )
      .trim();
    if (shorter === text) return text;
    text = shorter;
  }
}

const quotePairs: Readonly<Record<string, string>> = { '"': '"', "'": "'", "“": "”", "‘": "’", "«": "»" };

/** Whether a model declined instead of describing. Long texts describe, however they begin. */
export function isRefusal(text: string): boolean {
  if (text.length > 500) return false;
  return (
    /^(i['’]?m (very |really )?sorry|sorry,|i apologi[sz]e|unfortunately,? i\b|as an ai\b)/i.test(text) ||
    /^i( can(['’]t|not)|( am|['’]m) (not able|unable)| won['’]t| will not| do not| don['’]t) .{0,40}(assist|help|describe|provide|comply|identify|process|view|see|generate|fulfil|create|able|comfortable)/i.test(
      text,
    )
  );
}

/** A caption cut at a token limit, back to its last whole sentence where there is one past its first third. */
export function cutToSentence(text: string): string {
  const ends = [...text.matchAll(/[.!?。！？]["”’)]?(?=\s|$)/gu)];
  const last = ends.at(-1);
  if (!last) return text;
  const end = last.index + last[0].length;
  return end * 3 >= text.length ? text.slice(0, end) : text;
}

const edge = "\\p{L}\\p{M}\\p{N}_";

/** The trigger as a model may echo it: any case, words joined by blanks, hyphens or underscores, no sign at its end. */
function echoPattern(trigger: string): string {
  const core = trigger.replace(/[\p{P}\s]+$/u, "") || trigger;
  const escaped = (word: string) => word.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
  const words = core.split(/[\s_-]+/u).filter(Boolean);
  const body = words.length > 0 ? words.map(escaped).join("[\\s_-]+") : escaped(core);
  const first = new RegExp(`^[${edge}]`, "u").test(core) ? `(?<![${edge}])` : "";
  const last = new RegExp(`[${edge}]$`, "u").test(core) ? `(?![${edge}])` : "";
  return `["'“‘«(\\[*]{0,3}${first}${body}${last}["'”’»)\\]*]{0,3}`;
}

interface Mentions {
  /** At the beginning, as a label of its own: "In Studio Ghibli style, a girl" is "a girl". */
  label: RegExp;
  /** A sentence that says nothing else. */
  sentence: RegExp;
  /** "…, drawn in the Studio Ghibli style, …". */
  aside: RegExp;
  any: RegExp;
  /** The trigger's last word, to stand for the subject: "a tall ohwx man walks" is "a tall man walks". */
  noun: string;
}

function mentionsOf(trigger: string): Mentions {
  const echo = echoPattern(trigger);
  const lead = "(?:in the (?:visual )?style of|in|with|featuring|of)\\s+(?:the |a |an )?";
  const made = "(?:(?:rendered|drawn|depicted|shown|painted|animated|made)\\s+)?";
  // A trigger that ends in a sign needs no other to be told from what follows.
  const end = /[\p{L}\p{M}\p{N}]$/u.test(trigger) ? "(?:[.,:;!–—-]+\\s*|$)" : "[.,:;!–—-]*\\s*";
  const any = new RegExp(echo, "giu");
  const words = trigger.split(/\s+/u);
  const last = words.length > 1 ? words.at(-1)!.replace(/[^\p{L}\p{M}\p{N}]+$/u, "") : "";
  return {
    label: new RegExp(`^\\s*(?:${made}${lead})?${echo}\\s*${end}`, "iu"),
    sentence: new RegExp(`(?<=^|[.!?]\\s)${echo}\\s*[.!?]+(?:\\s+|$)`, "giu"),
    aside: new RegExp(`[,;]?\\s${made}${lead}${echo}(?=\\s*[.,;:!?]|$)`, "giu"),
    any,
    noun: `The ${last}`.search(any) < 0 ? last : "",
  };
}

/** A set is captioned with one trigger: its patterns are made once. */
let latest: { trigger: string; mentions: Mentions } | undefined;

function mentions(trigger: string): Mentions {
  if (latest?.trigger !== trigger) latest = { trigger, mentions: mentionsOf(trigger) };
  return latest.mentions;
}

/** Takes every mention out, leaving sentences that read. */
function withoutMentions(text: string, { sentence, aside, any, noun }: Mentions): string {
  return text
    .replace(/\s+/g, " ")
    .replace(sentence, "")
    .replace(aside, "")
    .replace(any, (_, at: number, whole: string) => {
      if (!noun) return " ";
      return at === 0 || /[.!?] $/.test(whole.slice(Math.max(0, at - 2), at)) ? `The ${noun}` : noun;
    })
    .replace(/\s+/g, " ")
    .replace(/ ([.,;:!?])/g, "$1")
    .trim();
}

const endsSentence = /[.!?。！？]["”’)\]]?\s*$/u;

/**
 * The caption: `trigger` first, as given, then what `text` says. Doing it again changes nothing. Empty where nothing
 * but the trigger was said.
 *
 * `inside`: what happens to further mentions. `remove` is for models that echo the phrase, `keep` for texts that use
 * it on purpose.
 */
export function withTrigger(
  text: string,
  trigger: string,
  { separator = ". ", inside = "remove" }: { separator?: string; inside?: "remove" | "keep" } = {},
): string {
  const phrase = trigger.trim();
  if (!phrase) return text.trim();
  const joint = /[\p{P}]$/u.test(phrase) && !/["”’)\]}]$/u.test(phrase) ? " " : separator;
  const patterns = mentions(phrase);
  let body = text.trim();
  // Removing one mention may put another together, out of fewer words every time.
  for (let changed = true; changed; ) {
    let next = body.startsWith(phrase + joint) ? body.slice(phrase.length + joint.length) : body;
    next = next.replace(patterns.label, "");
    if (inside === "remove") next = withoutMentions(next, patterns);
    next = next.replace(/^[\s.,;:!–—-]+/u, "");
    changed = next !== body;
    body = next;
  }
  if (!/[\p{L}\p{N}]/u.test(body)) return "";
  body = endsSentence.test(phrase + joint)
    ? body.replace(/^\p{Ll}/u, (letter) => letter.toUpperCase())
    : body.replace(/^(An?|The|In|On|At)(?= )/, (word) => word.toLowerCase());
  return phrase + joint + body;
}

/** Whether the text begins with the trigger as it is, and not with a longer word. */
export function beginsWithTrigger(text: string, trigger: string): boolean {
  const phrase = trigger.trim();
  return text.startsWith(phrase) && !/^[\p{L}\p{M}\p{N}_]{2}/u.test(phrase.slice(-1) + text.slice(phrase.length));
}
