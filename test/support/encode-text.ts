// Text in old encodings, for tests: what TextDecoder reads, turned round.
import { fixC1Controls } from "../../src/io/text-clean/fix-encoding.ts";

const tables = new Map<string, ReadonlyMap<string, readonly number[]>>();
const twoBytes: ReadonlySet<string> = new Set(["gb18030", "big5", "shift_jis", "euc-jp", "euc-kr"]);

function tableOf(encoding: string): ReadonlyMap<string, readonly number[]> {
  const known = tables.get(encoding);
  if (known) return known;
  const decoder = new TextDecoder(encoding);
  const table = new Map<string, readonly number[]>();
  const add = (...bytes: number[]) => {
    const read = decoder.decode(Uint8Array.from(bytes));
    // Some versions of Node read it as Latin-1.
    const char = encoding === "windows-1252" ? fixC1Controls(read) : read;
    if ([...char].length === 1 && char !== "\ufffd" && !table.has(char)) table.set(char, bytes);
  };
  for (let first = 0; first < 256; first++) add(first);
  if (twoBytes.has(encoding)) {
    for (let first = 0x81; first < 0xff; first++) for (let second = 0x40; second < 0xff; second++) add(first, second);
  }
  tables.set(encoding, table);
  return table;
}

/** `text` in an encoding that TextDecoder knows. Throws where a character has no place in it. */
export function encodeText(text: string, encoding: string): Uint8Array {
  if (encoding === "utf-16le") return Buffer.from(text, "utf16le");
  if (encoding === "utf-16be") return Buffer.from(text, "utf16le").swap16();
  const table = tableOf(encoding);
  return Uint8Array.from(
    [...text].flatMap((char) => {
      const bytes = table.get(char);
      if (!bytes) throw new Error(`${JSON.stringify(char)} is not in ${encoding}`);
      return [...bytes];
    }),
  );
}
