// Splits text into extended grapheme clusters in linear time.

const segmenter = new Intl.Segmenter("und", { granularity: "grapheme" });

/** V8 segments a string in time quadratic in its length, hence windows. */
const WINDOW = 512;

/** Below U+0300 nothing combines, so that two such characters always part, except a line break's two halves. */
const FIRST_COMBINING = 0x300;
const CARRIAGE_RETURN = 0x0d;
const LINE_FEED = 0x0a;

/** The end of every grapheme cluster of `text`, in order; the first one starts at 0. */
export function* graphemeEnds(text: string): Generator<number> {
  let start = 0;
  let window = WINDOW;
  while (start < text.length) {
    const here = text.charCodeAt(start);
    const next = start + 1 < text.length ? text.charCodeAt(start + 1) : 0;
    if (here < FIRST_COMBINING && next < FIRST_COMBINING && !(here === CARRIAGE_RETURN && next === LINE_FEED)) {
      yield ++start;
      continue;
    }
    // Rules look back no further than the cluster itself, so a window may begin at any boundary. Its last cluster may
    // have been cut short and is looked at again, with more room if it was the only one.
    const whole = start + window >= text.length;
    const splitsPair = !whole && text.codePointAt(start + window - 1)! > 0xffff;
    const slice = text.slice(start, start + window - (splitsPair ? 1 : 0));
    let end = start;
    for (const { segment } of segmenter.segment(slice)) {
      const last = end + segment.length === start + slice.length;
      if (last && !whole) break;
      end += segment.length;
      yield end;
    }
    window = end === start ? window * 2 : WINDOW;
    start = end;
  }
}
