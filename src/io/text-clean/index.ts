// The cleaning every official pipeline gives a prompt before tokenising it. Not the tokenizer.
// https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/tokenizers.py#L12-L38
import { fixText } from "./fix-text.ts";
import { unescapeHtml } from "./html.ts";

/** "whitespace" is what the pipelines use; the other two are the official code's further modes. */
export type CleaningMode = "whitespace" | "lower" | "canonicalize";

/** `text` as the text encoder is to see it. */
export function cleanText(text: string, mode: CleaningMode = "whitespace"): string {
  const basic = unescapeHtml(unescapeHtml(fixText(text)));
  switch (mode) {
    case "whitespace":
      return collapseSpace(basic);
    case "lower":
      return collapseSpace(basic).toLowerCase();
    case "canonicalize":
      return collapseSpace(
        basic
          .replaceAll("_", " ")
          .replace(/[!-/:-@[-`{-~]/g, "")
          .toLowerCase(),
      );
  }
}

/** Runs of white space become one space, none at the ends. */
function collapseSpace(text: string): string {
  const collapsed = text.replace(/\p{White_Space}+/gu, " ");
  // Python's strip() counts the four ASCII separators U+001C to U+001F as white space as well.
  const atEdge = (index: number): boolean => collapsed[index]! >= "\u001c" && collapsed[index]! <= " ";
  let start = 0;
  let end = collapsed.length;
  while (start < end && atEdge(start)) start++;
  while (end > start && atEdge(end - 1)) end--;
  return collapsed.slice(start, end);
}
