// The two resizes the official image paths use, to the bit or the last float: PyTorch's bicubic and Pillow's Lanczos.

/** 8-bit RGB, [height, width, 3]. */
export interface RgbImage {
  width: number;
  height: number;
  pixels: Uint8Array;
}

/** float32 planes [3, height, width] in [−1, 1], as torchvision's to_tensor(image).sub(0.5).div(0.5). */
export function toPlanes({ width, height, pixels }: RgbImage): Float32Array {
  const plane = width * height;
  const result = new Float32Array(3 * plane);
  const half = 0.5;
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < plane; i++) {
      result[c * plane + i] = Math.fround(Math.fround(pixels[i * 3 + c]! / 255) - half) / half;
    }
  }
  return result;
}

/**
 * torch.nn.functional.interpolate(mode="bicubic", align_corners=False): a = −0.75, half-pixel centres, borders
 * repeated, no antialiasing, no clamp. Planes [channels, height, width].
 */
export function resizeBicubic(
  planes: Float32Array,
  channels: number,
  from: { width: number; height: number },
  to: { width: number; height: number },
): Float32Array {
  if (from.width === to.width && from.height === to.height) return planes.slice();
  const columns = cubicTaps(from.width, to.width);
  const rows = cubicTaps(from.height, to.height);
  const result = new Float32Array(channels * to.width * to.height);
  for (let c = 0; c < channels; c++) {
    const base = c * from.width * from.height;
    for (let y = 0; y < to.height; y++) {
      for (let x = 0; x < to.width; x++) {
        let value = 0;
        for (let i = 0; i < 4; i++) {
          const line = base + rows.index[y * 4 + i]! * from.width;
          let across = 0;
          for (let j = 0; j < 4; j++) across += planes[line + columns.index[x * 4 + j]!]! * columns.weight[x * 4 + j]!;
          value += across * rows.weight[y * 4 + i]!;
        }
        result[(c * to.height + y) * to.width + x] = value;
      }
    }
  }
  return result;
}

function cubicTaps(from: number, to: number): { index: Int32Array; weight: Float32Array } {
  const a = -0.75;
  const near = (d: number) => ((a + 2) * d - (a + 3)) * d * d + 1;
  const far = (d: number) => ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  const index = new Int32Array(to * 4);
  const weight = new Float32Array(to * 4);
  const scale = Math.fround(from / to);
  for (let i = 0; i < to; i++) {
    const position = Math.fround(Math.fround(scale * (i + 0.5)) - 0.5);
    const start = Math.floor(position);
    const t = Math.fround(position - start);
    const weights = [far(t + 1), near(t), near(1 - t), far(2 - t)];
    for (let k = 0; k < 4; k++) {
      index[i * 4 + k] = Math.min(Math.max(start - 1 + k, 0), from - 1);
      weight[i * 4 + k] = weights[k]!;
    }
  }
  return { index, weight };
}

/** Pillow keeps this many fractional bits in its 8-bit coefficients (src/libImaging/Resample.c). */
const PRECISION_BITS = 22;

/**
 * Pillow's Image.resize(..., LANCZOS) on 8-bit RGB: fixed-point coefficients, width first, rounded between the passes.
 * (Pillow 13 does the height first where one side grows and the other shrinks, which no official path asks for.)
 */
export function resizeLanczos(image: RgbImage, width: number, height: number): RgbImage {
  let current = image;
  if (width !== image.width) current = lanczosPass(current, width, "columns");
  if (height !== image.height) current = lanczosPass(current, height, "rows");
  return current === image ? { ...image, pixels: image.pixels.slice() } : current;
}

function lanczosPass(image: RgbImage, size: number, axis: "columns" | "rows"): RgbImage {
  const from = axis === "columns" ? image.width : image.height;
  const { starts, counts, coefficients, span } = lanczosCoefficients(from, size);
  const width = axis === "columns" ? size : image.width;
  const height = axis === "rows" ? size : image.height;
  const step = axis === "columns" ? 3 : image.width * 3;
  const pixels = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const target = axis === "columns" ? x : y;
      const start = starts[target]!;
      const origin = axis === "columns" ? (y * image.width + start) * 3 : (start * image.width + x) * 3;
      for (let c = 0; c < 3; c++) {
        let sum = 2 ** (PRECISION_BITS - 1);
        for (let k = 0; k < counts[target]!; k++) {
          sum += image.pixels[origin + k * step + c]! * coefficients[target * span + k]!;
        }
        const value = Math.floor(sum / 2 ** PRECISION_BITS);
        pixels[(y * width + x) * 3 + c] = Math.min(Math.max(value, 0), 255);
      }
    }
  }
  return { width, height, pixels };
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

function lanczosCoefficients(from: number, to: number) {
  const scale = from / to;
  const filterScale = Math.max(scale, 1);
  const support = 3 * filterScale;
  const span = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(to);
  const counts = new Int32Array(to);
  const coefficients = new Float64Array(to * span);
  for (let i = 0; i < to; i++) {
    const center = (i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(from, Math.trunc(center + support + 0.5));
    const weights = Array.from({ length: end - start }, (_, k) => {
      const x = (k + start - center + 0.5) / filterScale;
      return Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0;
    });
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (const [k, weight] of weights.entries()) {
      const fixed = (weight / total) * 2 ** PRECISION_BITS;
      coefficients[i * span + k] = fixed < 0 ? Math.trunc(fixed - 0.5) : Math.trunc(fixed + 0.5);
    }
    starts[i] = start;
    counts[i] = end - start;
  }
  return { starts, counts, coefficients, span };
}
