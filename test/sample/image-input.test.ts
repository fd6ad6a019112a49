// The picture paths against Pillow and PyTorch, recorded once with the versions named below.
import { describe, expect, it } from "vitest";
import { roundHalfEven } from "../../src/base/round.ts";
import { firstFrameTimesteps, imposeFirstFrame } from "../../src/models/wan/conditioning.ts";
import { type RgbImage, resizeBicubic, resizeLanczos, toPlanes } from "../../src/sample/image-resize.ts";
import { coverImage, stretchImage } from "../../src/sample/picture.ts";

/** A picture whose pixels follow one formula in Python and here. */
function pattern(width: number, height: number): RgbImage {
  const pixels = new Uint8Array(width * height * 3);
  for (let i = 0; i < pixels.length; i++) pixels[i] = (i * 37 + Math.floor(i / 7) * 11 + (i % 5) * 53) % 256;
  return { width, height, pixels };
}

const checksum = (values: ArrayLike<number>): number => {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum = (sum * 31 + values[i]!) % 1_000_000_007;
  return sum;
};

describe("Lanczos on 8-bit pixels", () => {
  // PIL.Image.fromarray(pattern).resize((w, h), Image.LANCZOS), Pillow 13.0.0: checksum of the bytes.
  it.each([
    [23, 17, 11, 9, 382908662],
    [23, 17, 50, 40, 239624756],
    [64, 48, 64, 20, 932904308],
    [40, 30, 12, 60, 497795278],
    [5, 5, 40, 5, 878959816],
  ])("%i×%i to %i×%i is Pillow's, byte for byte", (w, h, toW, toH, expected) => {
    expect(checksum(resizeLanczos(pattern(w, h), toW, toH).pixels)).toBe(expected);
  });
});

describe("bicubic on float planes", () => {
  // torch.nn.functional.interpolate(mode="bicubic") of the pattern in [−1, 1], PyTorch 2.15.0: sum, sum of squares, ends.
  it.each([
    [23, 17, 11, 9, -2.911740264389664, 85.0253843700163, [-0.806631863117218, 0.8074222207069397]],
    [9, 7, 20, 16, 0.4920234995338433, 233.53002970000747, [-1.1091508865356445, 0.9366021156311035]],
  ] as const)("%i×%i to %i×%i is PyTorch's", (w, h, toW, toH, sum, squares, ends) => {
    const from = { width: w, height: h };
    const planes = resizeBicubic(toPlanes(pattern(w, h)), 3, from, { width: toW, height: toH });
    expect(planes.reduce((total, value) => total + value, 0)).toBeCloseTo(sum, 4);
    expect(planes.reduce((total, value) => total + value * value, 0)).toBeCloseTo(squares, 3);
    expect(planes[0]).toBeCloseTo(ends[0], 5);
    expect(planes.at(-1)).toBeCloseTo(ends[1], 5);
  });

  it("leaves a picture of the right size as it is", () => {
    const planes = toPlanes(pattern(8, 6));
    const size = { width: 8, height: 6 };
    expect(resizeBicubic(planes, 3, size, size)).toEqual(planes);
  });
});

describe("picture conditions", () => {
  it("give sizes the models can make from pictures of any shape", () => {
    for (const [w, h] of [
      [640, 480],
      [333, 777],
      [1920, 1080],
      [64, 64],
    ] as const) {
      const covered = coverImage(pattern(w, h), 128 * 128);
      expect([covered.width % 32, covered.height % 32]).toEqual([0, 0]);
      expect(covered.planes.length).toBe(3 * covered.width * covered.height);
      const stretched = stretchImage(pattern(w, h), 128 * 128);
      expect([stretched.width % 16, stretched.height % 16]).toEqual([0, 0]);
    }
  });

  it("hold the first latent frame and its tokens' time", () => {
    const shape = [2, 3, 2, 4] as const;
    const latents = new Float32Array(48).fill(5);
    imposeFirstFrame(
      latents,
      Float32Array.from({ length: 16 }, (_, i) => i),
      shape,
    );
    expect([...latents.subarray(0, 8)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect([...latents.subarray(24, 32)]).toEqual([8, 9, 10, 11, 12, 13, 14, 15]);
    expect(latents[8]).toBe(5);
    expect([...firstFrameTimesteps(700, shape)]).toEqual([0, 0, 700, 700, 700, 700]);
  });

  it("round halves to even as Python does", () => {
    expect([0.5, 1.5, 2.5, 2.4, 2.6].map(roundHalfEven)).toEqual([0, 2, 2, 2, 3]);
  });
});
