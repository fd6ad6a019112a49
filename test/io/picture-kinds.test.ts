// Pictures that look like films and films that look like pictures: HEIC, animated GIF, PNG and WebP; and sizes that are
// claimed to use all memory up.
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { describe, expect, it } from "vitest";
import { imageKind } from "../../src/io/image/kind.ts";
import { isMoving } from "../../src/io/image/moving.ts";
import { readImage } from "../../src/io/image/read.ts";
import { encodeImage } from "../../src/io/image/write.ts";
import { probe } from "../../src/io/video/probe.ts";
import { openVideo } from "../../src/io/video/read.ts";
import { makeFilm, temporaryFolder } from "../support/film.ts";
import { makeHeic } from "../support/heic.ts";

const folder = temporaryFolder();
const at = (name: string) => join(folder, name);

/** Red on its left, blue on its right. */
const halves = (width: number, height: number) =>
  `color=0xd02818:s=${width}x${height}:r=1,drawbox=x=${width / 2}:w=${width / 2}:h=${height}:color=0x2030c0:t=fill`;

const corner = ({ data, width, height }: { data: Uint8Array; width: number; height: number }, x: number, y: number) => {
  const offset =
    (Math.min(height - 1, Math.round(y * height)) * width + Math.min(width - 1, Math.round(x * width))) * 3;
  return [...data.subarray(offset, offset + 3)];
};
const near = (actual: readonly number[], wanted: readonly number[]) => {
  for (const [i, value] of wanted.entries()) expect(Math.abs(actual[i]! - value), `${actual}`).toBeLessThan(12);
};
const red = [0xd0, 0x28, 0x18];
const blue = [0x20, 0x30, 0xc0];

describe("HEIC", () => {
  it.each(["heic", "mif1", "heix"])("with the brand %s is read as a picture", async (brand) => {
    const path = at(`plain-${brand}.heic`);
    await makeHeic(path, { graph: halves(128, 64), width: 128, height: 64, brand });
    expect(imageKind(readFileSync(path))).toBe("heif");
    expect(await isMoving(path)).toBe(false);
    const picture = await readImage(path);
    expect(picture.info).toEqual({ kind: "heif", width: 128, height: 64, hasAlpha: false });
    near(corner(picture, 0.1, 0.5), red);
    near(corner(picture, 0.9, 0.5), blue);
  });

  it("is turned as it says", async () => {
    await makeHeic(at("turned.heic"), { graph: halves(128, 64), width: 128, height: 64, turns: 1 });
    const picture = await readImage(at("turned.heic"));
    expect([picture.width, picture.height]).toEqual([64, 128]);
    // A quarter against the clock brings the right side to the top.
    near(corner(picture, 0.5, 0.1), blue);
    near(corner(picture, 0.5, 0.9), red);
  });

  it("gives its picture and not its thumbnail, whichever is larger or first", async () => {
    const thumbnail = { graph: "color=white:s=256x128:r=1", width: 256, height: 128 };
    await makeHeic(at("thumbnail.heic"), { graph: halves(128, 64), width: 128, height: 64, thumbnail });
    const picture = await readImage(at("thumbnail.heic"));
    expect([picture.width, picture.height]).toEqual([128, 64]);
    near(corner(picture, 0.1, 0.5), red);
  });

  it("put together of tiles is refused by name", async () => {
    await makeHeic(at("tiles.heic"), { graph: halves(128, 64), width: 128, height: 64, type: "grid" });
    await expect(readImage(at("tiles.heic"))).rejects.toMatchObject({
      code: "image.in-parts",
      hint: expect.stringContaining("convert it to JPEG or PNG"),
    });
  });

  it("cut off at any place is an error and no picture", async () => {
    await makeHeic(at("whole.heic"), { graph: halves(128, 64), width: 128, height: 64 });
    const whole = readFileSync(at("whole.heic"));
    for (let length = 40; length < whole.length - 40; length += 37) {
      writeFileSync(at("cut.heic"), whole.subarray(0, length));
      await expect(readImage(at("cut.heic")), `${length} of ${whole.length}`).rejects.toMatchObject({
        code: expect.stringMatching(/^(image|media)\./),
      });
    }
  });

  it("is told from a film in the same box format", async () => {
    await makeFilm(at("film.mp4"), { graph: `${halves(64, 64)},trim=end=2,format=yuv420p` });
    expect(imageKind(readFileSync(at("film.mp4")))).toBeUndefined();
  });
});

describe("moving pictures", () => {
  const kinds = [
    ["gif", "gif", "gif", "format=rgb8"],
    ["png", "apng", "apng", "format=rgb24"],
    ["webp", "libwebp_anim", "webp", "format=bgra"],
  ] as const;
  const moving = "testsrc2=s=64x48:r=10,trim=end_frame=12";

  it.each(kinds)(
    "a .%s of twelve frames is a film, one of a single frame a picture",
    async (ending, encoder, container, format) => {
      const film = at(`film.${ending}`);
      await makeFilm(film, { graph: `${moving},${format}`, encoder, container });
      expect(await isMoving(film)).toBe(true);
      expect((await probe(film)).video).toMatchObject({ width: 64, height: 48, fps: 10 });
      for (const start of [0, 0.55]) {
        const times: number[] = [];
        for await (const { time } of openVideo(film, { start })) times.push(time);
        expect(times).toHaveLength(12 - Math.floor(start * 10));
        times.forEach((time, i) => void expect(time).toBeCloseTo(Math.floor(start * 10) / 10 + i / 10, 2));
      }
      const still = at(`still.${ending}`);
      await makeFilm(still, { graph: `${moving},trim=end_frame=1,${format}`, encoder, container });
      expect(await isMoving(still)).toBe(false);
    },
  );

  it("what may be seen through lies on white, as in pictures", async () => {
    await makeFilm(at("clear.webp"), {
      graph:
        "color=0x00a000:s=64x48:r=10,trim=end_frame=3,format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='255*gt(X,31)',format=bgra",
      encoder: "libwebp_anim",
      container: "webp",
      encoderOptions: { lossless: "1" },
    });
    for await (const frame of openVideo(at("clear.webp"))) {
      near(corner(frame, 0.2, 0.5), [255, 255, 255]);
      near(corner(frame, 0.8, 0.5), [0, 0xa0, 0]);
    }
  });

  it("files of other kinds, empty ones and cut ones do not move", async () => {
    const data = new Uint8Array(16 * 16 * 3).fill(90);
    writeFileSync(at("plain.png"), await encodeImage({ width: 16, height: 16, data }, "png"));
    writeFileSync(at("empty.png"), "");
    writeFileSync(at("head.gif"), "GIF89a");
    writeFileSync(at("head.webp"), "RIFF\0\0\0\0WEBP");
    copyFileSync(at("plain.png"), at("named.gif"));
    for (const name of ["plain.png", "empty.png", "head.gif", "head.webp", "named.gif"])
      expect(await isMoving(at(name)), name).toBe(false);
  });
});

describe("sizes that are only claimed", () => {
  const png = (width: number, height: number) => {
    const head = Buffer.alloc(33);
    head.write("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "latin1");
    head.writeUInt32BE(width, 16);
    head.writeUInt32BE(height, 20);
    head.set([8, 2, 0, 0, 0], 24);
    head.writeUInt32BE(crc32(head.subarray(12, 29)), 29);
    return head;
  };
  const gif = (width: number, height: number) => {
    const head = Buffer.alloc(13);
    head.write("GIF89a");
    head.writeUInt16LE(width, 6);
    head.writeUInt16LE(height, 8);
    return head;
  };
  const bmp = (width: number, height: number) => {
    const head = Buffer.alloc(54);
    head.write("BM");
    head.writeUInt32LE(54, 10);
    head.writeUInt32LE(40, 14);
    head.writeInt32LE(width, 18);
    head.writeInt32LE(-height, 22);
    head.writeUInt16LE(1, 26);
    head.writeUInt16LE(24, 28);
    return head;
  };

  it.each([
    ["png", png(30_000, 30_000)],
    ["png", png(0x7fffffff, 0x7fffffff)],
    ["gif", gif(65_535, 65_535)],
    ["bmp", bmp(100_000, 100_000)],
  ])("of a picture are refused before memory is taken: %s", async (ending, bytes) => {
    const path = at(`vast.${ending}`);
    writeFileSync(path, bytes);
    await expect(readImage(path)).rejects.toMatchObject({ code: "image.too-large" });
  });

  it("of a film too", async () => {
    await makeFilm(at("usual.mp4"), { graph: `${halves(64, 48)},trim=end=1,format=yuv420p` });
    const bytes = readFileSync(at("usual.mp4"));
    // Width and height in the sample's description.
    const place = bytes.indexOf("avc1", bytes.indexOf("stsd", 0, "latin1"), "latin1") + 28;
    expect([bytes.readUInt16BE(place), bytes.readUInt16BE(place + 2)]).toEqual([64, 48]);
    bytes.writeUInt16BE(65_000, place);
    bytes.writeUInt16BE(65_000, place + 2);
    writeFileSync(at("vast.mp4"), bytes);
    await expect(probe(at("vast.mp4"))).rejects.toMatchObject({ code: "media.too-large" });
  });
});
