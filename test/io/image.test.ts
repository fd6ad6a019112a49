// Reading and writing pictures: every format, EXIF turning, alpha, sizes from 1×1 to very large, damage.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type RgbImage, readImage } from "../../src/io/image/read.ts";
import { encodeImage, writeJpeg, writePng, writeWebp } from "../../src/io/image/write.ts";
import { makeFilm, temporaryFolder } from "../support/film.ts";

// libsvtav1 talks on stderr unless told.
process.env.SVT_LOG = "1";
const folder = temporaryFolder();
const at = (name: string) => join(folder, name);

/** Four quarters of one colour each: red, green, blue, white. */
function quarters(width: number, height: number): RgbImage {
  const colors = [
    [250, 10, 10],
    [10, 250, 10],
    [10, 10, 250],
    [250, 250, 250],
  ];
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      data.set(colors[(y < height / 2 ? 0 : 2) + (x < width / 2 ? 0 : 1)]!, (y * width + x) * 3);
  return { width, height, data };
}

const noise: RgbImage = {
  width: 64,
  height: 64,
  data: Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 7919 + (i >> 3) * 31) & 255),
};

/** Colours at the middles of the quarters, as letters. */
function corners({ width, height, data }: RgbImage): string {
  const letter = (x: number, y: number) => {
    const [r, g, b] = data.subarray((y * width + x) * 3);
    if (r! > 200 && g! > 200 && b! > 200) return "w";
    return r! > 200 ? "r" : g! > 200 ? "g" : b! > 200 ? "b" : "?";
  };
  const [left, right, top, bottom] = [width >> 2, width - (width >> 2) - 1, height >> 2, height - (height >> 2) - 1];
  return letter(left, top) + letter(right, top) + letter(left, bottom) + letter(right, bottom);
}

function difference(a: RgbImage, b: RgbImage): number {
  let sum = 0;
  for (let i = 0; i < a.data.length; i++) sum += Math.abs(a.data[i]! - b.data[i]!);
  return sum / a.data.length;
}

/** Puts an EXIF block with nothing but the orientation behind the JPEG's first marker. */
function withOrientation(jpeg: Uint8Array, orientation: number): Buffer {
  const exif = Buffer.from("45786966000049492a00080000000100120103000100000000000000", "hex");
  const block = Buffer.concat([exif, Buffer.alloc(6)]);
  block.writeUInt16LE(orientation, 6 + 8 + 2 + 8);
  const head = Buffer.from([0xff, 0xe1, 0, 0]);
  head.writeUInt16BE(block.length + 2, 2);
  return Buffer.concat([jpeg.subarray(0, 2), head, block, jpeg.subarray(2)]);
}

describe("readImage", () => {
  it("reads what was written as PNG exactly, as JPEG and WebP closely", async () => {
    const picture = quarters(64, 48);
    await writePng(at('p "q" ü%03d\n.png'), picture);
    await writeJpeg(at("p.jpg"), picture, 95);
    await writeWebp(at("p.webp"), picture, 95);
    expect(difference(await readImage(at('p "q" ü%03d\n.png')), picture)).toBe(0);
    expect(difference(await readImage(at("p.jpg")), picture)).toBeLessThan(3);
    expect(difference(await readImage(at("p.webp")), picture)).toBeLessThan(6);
    const bytes = await Promise.all(
      [20, 60, 95].map(async (quality) => (await encodeImage(noise, "jpeg", quality)).length),
    );
    expect(bytes).toEqual([...bytes].sort((a, b) => a - b));
    expect(bytes[0]! * 2).toBeLessThan(bytes[2]!);
  });

  it("goes by the bytes, not by the name", async () => {
    writeFileSync(at("really-png.jpg"), await encodeImage(quarters(16, 16), "png"));
    expect((await readImage(at("really-png.jpg"))).info.kind).toBe("png");
  });

  it.each([
    [1, "rgbw"],
    [2, "grwb"],
    [3, "wbgr"],
    [4, "bwrg"],
    [5, "rbgw"],
    [6, "brwg"],
    [7, "wgbr"],
    [8, "gwrb"],
  ])("turns a JPEG by EXIF orientation %i", async (orientation, expected) => {
    const path = at(`exif${orientation}.jpg`);
    writeFileSync(path, withOrientation(await encodeImage(quarters(64, 48), "jpeg", 95), orientation));
    const image = await readImage(path);
    expect([image.width, image.height]).toEqual(orientation >= 5 ? [48, 64] : [64, 48]);
    expect(corners(image)).toBe(expected);
  });

  it("lays transparent parts over the background", async () => {
    const graph = "color=red:s=32x32:r=1:d=1,format=rgba,geq=r=200:g=100:b=50:a='if(lt(X,16),0,128)',format=rgba";
    await makeFilm(at("alpha.png"), { graph, encoder: "png", container: "image2" });
    const onWhite = await readImage(at("alpha.png"));
    expect(onWhite.info.hasAlpha).toBe(true);
    expect([...onWhite.data.subarray(0, 3)]).toEqual([255, 255, 255]);
    const [r, g, b] = onWhite.data.subarray(20 * 3);
    for (const [got, own] of [
      [r, 200],
      [g, 100],
      [b, 50],
    ] as const)
      expect(Math.abs(got! - (own * 128 + 255 * 127) / 255)).toBeLessThanOrEqual(1);
    const onBlack = await readImage(at("alpha.png"), { background: [0, 0, 0] });
    expect([...onBlack.data.subarray(0, 3)]).toEqual([0, 0, 0]);
  });

  it("reads AVIF, grey and 16-bit PNG, BMP and TIFF", async () => {
    const graph = "color=black:s=64x64:r=1:d=1,format=gbrp,geq=r='if(lt(X,32),250,10)':g='if(lt(Y,32),250,10)':b=10";
    await makeFilm(at("a.avif"), {
      graph: `${graph},scale=out_color_matrix=bt709,format=yuv420p`,
      encoder: "libsvtav1",
      container: "avif",
      color: { space: 1, range: 1 },
    });
    await makeFilm(at("deep.png"), { graph: `${graph},format=rgb48be`, encoder: "png", container: "image2" });
    await makeFilm(at("grey.png"), { graph: `${graph},format=gray`, encoder: "png", container: "image2" });
    await makeFilm(at("b.bmp"), { graph: `${graph},format=bgr24`, encoder: "bmp", container: "image2" });
    await makeFilm(at("t.tiff"), { graph: `${graph},format=rgb24`, encoder: "tiff", container: "image2" });
    for (const [name, kind] of [
      ["a.avif", "avif"],
      ["deep.png", "png"],
      ["b.bmp", "bmp"],
      ["t.tiff", "tiff"],
    ] as const) {
      const image = await readImage(at(name));
      expect(image.info).toMatchObject({ kind, width: 64, height: 64 });
      // Yellow, green, red, black.
      const [r, g, b] = image.data.subarray((10 * 64 + 50) * 3);
      expect([r! < 40, g! > 220, b! < 40], name).toEqual([true, true, true]);
    }
    const grey = await readImage(at("grey.png"));
    expect(grey.data[0]).toBe(grey.data[1]);
  });

  it("crops and scales by the picture's own size", async () => {
    await writePng(at("big.png"), quarters(640, 480));
    const image = await readImage(at("big.png"), {
      geometry: ({ width, height }) => ({
        crop: { x: width / 2, y: 0, width: width / 2, height: height / 2 },
        width: 40,
        height: 30,
      }),
    });
    expect([image.width, image.height, corners(image)]).toEqual([40, 30, "gggg"]);
  });

  it("reads 1×1 and 16,000-pixel pictures", async () => {
    await writePng(at("dot.png"), quarters(1, 1));
    expect([...(await readImage(at("dot.png"))).data]).toHaveLength(3);
    await makeFilm(at("wide.jpg"), {
      graph: "color=green:s=16000x9000:r=1:d=1,format=yuvj420p",
      encoder: "mjpeg",
      container: "image2",
    });
    const image = await readImage(at("wide.jpg"), { geometry: () => ({ width: 160, height: 90, scaler: "area" }) });
    expect([image.info.width, image.info.height, image.data.length]).toEqual([16000, 9000, 160 * 90 * 3]);
  });
});

async function failure(path: string): Promise<string> {
  try {
    await readImage(path);
    return "none";
  } catch (error) {
    return (error as { code: string }).code;
  }
}

describe("pictures that cannot be read", () => {
  it("are named with what is wrong", async () => {
    const png = await encodeImage(quarters(64, 64), "png");
    const jpeg = await encodeImage(noise, "jpeg");
    writeFileSync(at("text.png"), "no picture");
    writeFileSync(at("empty.png"), "");
    writeFileSync(at("half.png"), png.subarray(0, png.length / 2));
    writeFileSync(at("half.jpg"), jpeg.subarray(0, jpeg.length / 2));
    writeFileSync(at("head.jpg"), jpeg.subarray(0, 12));
    const damaged = Buffer.from(png);
    damaged.fill(0x55, 60, 90);
    writeFileSync(at("damaged.png"), damaged);
    for (const [name, code] of [
      ["text.png", "image.unknown-format"],
      ["empty.png", "image.unknown-format"],
      ["half.png", "image.unreadable"],
      ["half.jpg", "image.unreadable"],
      ["head.jpg", "image.unreadable"],
      ["damaged.png", "image.unreadable"],
      ["missing.png", "media.not-found"],
    ])
      expect(await failure(at(name!)), name).toBe(code);
  });

  it("are refused on writing with a wrong number of bytes", async () => {
    await expect(writePng(at("x.png"), { width: 4, height: 4, data: new Uint8Array(3) })).rejects.toMatchObject({
      code: "image.bad-size",
    });
    expect(existsSync(at("x.png"))).toBe(false);
  });
});

const shared = new URL("../../../shared/media/", import.meta.url).pathname;
describe.skipIf(!existsSync(shared))("real pictures (../shared/media)", () => {
  it("are read at the size in their headers", async () => {
    for (const name of ["cat-surfboard.jpg", "portrait.jpeg"]) {
      const bytes = readFileSync(join(shared, name));
      // The frame header of a JPEG: marker, length, precision, height, width.
      let offset = 2;
      while (![0xc0, 0xc2].includes(bytes[offset + 1]!)) offset += 2 + bytes.readUInt16BE(offset + 2);
      const image = await readImage(join(shared, name));
      expect([image.width, image.height]).toEqual([bytes.readUInt16BE(offset + 7), bytes.readUInt16BE(offset + 5)]);
    }
  });
});
