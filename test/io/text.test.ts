// The one reader of people's text: encodings that are marked, that are told by their content, and that cannot be.
import { execFileSync } from "node:child_process";
import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { isKinoraError } from "../../src/base/errors.ts";
import { decodeText } from "../../src/io/text/decode.ts";
import { readText } from "../../src/io/text/read.ts";
import { encodeText } from "../support/encode-text.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();

const utf16 = (text: string, mark: boolean, big = false): Uint8Array => {
  const bytes = Buffer.from(`${mark ? "\ufeff" : ""}${text}`, "utf16le");
  return big ? bytes.swap16() : bytes;
};

function failure(bytes: Uint8Array) {
  try {
    const { text } = decodeText(bytes);
    return { code: `read as ${text}`, message: "", hint: "" };
  } catch (error) {
    if (!isKinoraError(error)) throw error;
    return { code: error.code, message: error.message, hint: error.hint ?? "" };
  }
}

describe("text with a mark, or in UTF-8", () => {
  const text = "eine rote Straße, 红色的圆, 🙂\nzwei\nl’été";
  it.each([
    ["UTF-8", new TextEncoder().encode(text)],
    ["UTF-8 with a byte order mark", new TextEncoder().encode(`\ufeff${text}`)],
    ["UTF-16LE with one", utf16(text, true)],
    ["UTF-16BE with one", utf16(text, true, true)],
  ])("is read as it is: %s", (_name, bytes) => {
    expect(decodeText(bytes)).toEqual({ text });
  });

  it("has its line breaks made one kind, and marks inside files put together taken out", () => {
    expect(decodeText(Buffer.from("a\r\nb\rc\n\r\n\ufeffd")).text).toBe("a\nb\nc\n\nd");
    expect(decodeText(new Uint8Array()).text).toBe("");
    expect(decodeText(utf16("", true)).text).toBe("");
  });

  it("with U+FFFD in it is told to have lost letters", () => {
    const { text: read, notice } = decodeText(Buffer.from("a caf\ufffd at night"));
    expect(read).toBe("a caf\ufffd at night");
    expect(notice).toMatch(/U\+FFFD.*characters were lost/);
  });
});

describe("text in an encoding that is not named", () => {
  it.each([
    ["windows-1252", "un déjà vu à la crème brûlée"],
    ["windows-1252", "a café at night, it’s “dark” – and cold…"],
    ["windows-1252", "Größe und Schärfe der Bäume"],
    ["windows-1252", "la niña mira el océano"],
    ["gb18030", "红色的圆"],
    ["gb18030", "一只白色的小狗在雪地里奔跑，镜头跟随"],
    ["gb18030", "sks女孩, 微笑着看向镜头"],
    ["big5", "一隻白色的小狗在雪地裡奔跑，鏡頭跟隨"],
    ["shift_jis", "白い犬が雪の中を走っている"],
    ["euc-jp", "白い犬が雪の中を走っている、カメラは静止"],
    ["euc-kr", "하얀 강아지가 눈밭을 달리고 카메라가 따라간다"],
    ["windows-1251", "белая собака бежит по снегу"],
    ["windows-1251", "білий пес біжить по снігу"],
    ["koi8-u", "белая собака бежит по снегу"],
    ["ibm866", "белая собака бежит по снегу"],
    ["windows-1250", "biały pies biegnie przez śnieg w świetle księżyca"],
    ["iso-8859-2", "bílý pes běží sněhem, kamera ho následuje"],
    ["windows-1253", "ένας λευκός σκύλος τρέχει στο χιόνι"],
    ["windows-1254", "beyaz köpek karda koşuyor, ışık yumuşak"],
    ["windows-1255", "כלב לבן רץ בשלג והמצלמה עוקבת אחריו"],
    ["windows-1256", "كلب أبيض يركض في الثلج والكاميرا تتبعه"],
    ["windows-874", "สุนัขสีขาววิ่งในหิมะ กล้องตามไป"],
    ["utf-16le", "a white dog runs"],
    ["utf-16be", "a white dog runs"],
    ["utf-16le", "白い犬が雪の中を走っている\n"],
    ["utf-16be", "一只白色的小狗在雪地里奔跑\n"],
  ])("is read rightly and told: %s, %s", (encoding, text) => {
    const { text: read, notice } = decodeText(encodeText(text, encoding));
    expect(read).toBe(text);
    expect(notice).toMatch(/^is not UTF-8 and was read as .*: ".+"; if that is wrong, save it as UTF-8/);
  });

  it("is refused with what it may be, where several readings are likely", () => {
    const { code, message, hint } = failure(encodeText("巴林", "gb18030"));
    expect(code).toBe("text.unknown-encoding");
    expect(message).toContain('"巴林" in GBK');
    expect(hint).toContain("UTF-8");
  });

  it("is refused where no reading is likely", () => {
    const noise = Uint8Array.from({ length: 400 }, (_, i) => 0x80 + ((i * 89 + (i >> 3) * 31) % 0x7f));
    expect(failure(noise).code).toBe("text.unknown-encoding");
  });

  it("is told by the whole file, whose first part may be plain", () => {
    const text = `${"a plain line\n".repeat(5000)}un chat près de la fenêtre\n`;
    expect(decodeText(encodeText(text, "windows-1252")).text).toBe(text);
    const long = `${"a plain line\n".repeat(40_000)}un chat près de la fenêtre\n`;
    expect(decodeText(encodeText(long, "windows-1252")).text).toBe(long);
  });
});

describe("what is no text, or damaged", () => {
  it.each([
    ["UTF-8 with a wrong byte", Buffer.from("日本の街\n犬が\xe9走る").fill(0xe9, 18, 19), "text.damaged"],
    ["UTF-16 cut in the middle of a letter", utf16("a red cat", true).subarray(0, 9), "text.damaged"],
    ["UTF-16 with half a pair", utf16("a \ud83d b", true), "text.damaged"],
    ["zeros of a power cut", new Uint8Array(64), "text.damaged"],
    ["zeros inside", Buffer.from("a red\0\0 cat"), "text.not-text"],
    ["a picture", Buffer.from("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "latin1"), "text.not-text"],
    ["a film", Buffer.from("\0\0\0\x20ftypisom\0\0\x02\0", "latin1"), "text.not-text"],
    ["an office document", Buffer.from("PK\x03\x04\x14\0\x06\0\x08\0", "latin1"), "text.not-text"],
    ["a rich text document", Buffer.from("{\\rtf1\\ansi caf\\'e9 \xe9}", "latin1"), "text.not-text"],
    ["UTF-32", Buffer.from([0xff, 0xfe, 0, 0, 0x61, 0, 0, 0]), "text.unknown-encoding"],
  ])("is an error: %s", (_name, bytes, code) => {
    expect(failure(bytes).code).toBe(code);
  });

  it("names the place of a wrong byte", () => {
    const bytes = Buffer.concat([Buffer.from("日本の街\n犬が走る "), Buffer.from([0xe9]), Buffer.from(" 夜")]);
    expect(failure(bytes).message).toMatch(/an invalid byte.*0xe9 in line 2, behind ".*犬が走る "/);
  });
});

describe("reading a file", () => {
  it("names it in errors and bounds it", async () => {
    writeFileSync(path("twice.txt"), encodeText("巴林", "gb18030"));
    await expect(readText(path("twice.txt"))).rejects.toMatchObject({
      code: "text.unknown-encoding",
      message: expect.stringContaining("twice.txt: is not UTF-8"),
    });
    await expect(readText(path("none.txt"))).rejects.toMatchObject({ code: "io.not-found" });
    mkdirSync(path("folder.txt"));
    await expect(readText(path("folder.txt"))).rejects.toMatchObject({ code: "io.not-a-file" });
    writeFileSync(path("big.txt"), "");
    truncateSync(path("big.txt"), 1 << 30);
    await expect(readText(path("big.txt"))).rejects.toMatchObject({ code: "io.too-large" });
    writeFileSync(path("small.txt"), "12345");
    expect((await readText(path("small.txt"), 5)).text).toBe("12345");
    await expect(readText(path("small.txt"), 4)).rejects.toMatchObject({ code: "io.too-large" });
  });

  it.skipIf(process.platform === "win32")(
    "does not wait for pipes nor read devices, and reads what tells no size",
    async () => {
      execFileSync("mkfifo", [path("pipe.txt")]);
      await expect(readText(path("pipe.txt"))).rejects.toMatchObject({ code: "io.not-a-file" });
      await expect(readText("/dev/zero")).rejects.toMatchObject({ code: "io.not-a-file" });
      if (process.platform === "linux") expect((await readText("/proc/self/comm")).text).not.toBe("");
    },
  );
});
