// Whether a device computes right, and how fast: a product, an attention and copies both ways, held against arithmetic of
// our own. A device that has not been seen to work on every machine goes through it before it is used.
import { bytesOf, type DType } from "../base/dtype.ts";
import { KinoraError } from "../base/errors.ts";
import { fromFloat32, toFloat32 } from "../base/float-formats.ts";
import { philoxNormals } from "../base/rng/philox-rng.ts";
import { elementCount } from "../base/shape.ts";
import type { DeviceDescriptor } from "./descriptor.ts";
import type { Device } from "./device.ts";
import type { Operand } from "./kernels.ts";
import { fastest } from "./speed.ts";

/** Sums are rounded to the format; this much of the largest value is far above that and far below a wrong sum. */
const TOLERANCE: Partial<Record<DType, number>> = { f32: 1e-3, bf16: 0.03 };

interface Drawn {
  operand: Operand;
  /** As the device has them. */
  values: Float32Array;
}

/** Operands on a device, freed together. */
class Hand implements Disposable {
  readonly #device: Device;
  readonly #made: Operand[] = [];
  #stream = 0;

  constructor(device: Device) {
    this.#device = device;
  }

  empty(dtype: DType, shape: readonly number[]): Operand {
    const block = this.#device.alloc(elementCount(shape) * bytesOf(dtype), "workspace");
    const made = { block, offset: 0, dtype, shape };
    this.#made.push(made);
    return made;
  }

  drawn(dtype: DType, shape: readonly number[]): Drawn {
    const operand = this.empty(dtype, shape);
    const drawn = new Float32Array(elementCount(shape));
    philoxNormals(1, this.#stream++, 0, drawn);
    const bytes = fromFloat32(drawn, dtype);
    this.#device.upload(operand.block, 0, bytes);
    return { operand, values: toFloat32(bytes, dtype) };
  }

  async read({ block, dtype, shape }: Operand): Promise<Float32Array> {
    return toFloat32(await this.#device.download(block, 0, elementCount(shape) * bytesOf(dtype)), dtype);
  }

  [Symbol.dispose](): void {
    for (const { block } of this.#made) this.#device.free(block);
  }
}

function expectClose(what: string, dtype: DType, actual: Float32Array, expected: Float32Array): void {
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const error = actual.reduce((most, value, i) => {
    const difference = Math.abs(value - expected[i]!);
    return difference >= most || Number.isNaN(difference) ? difference : most;
  }, 0);
  if (error <= TOLERANCE[dtype]! * largest) return;
  throw new KinoraError("device.self-test", `the device computes ${what} incorrectly`, {
    expected: `an error below ${(TOLERANCE[dtype]! * largest).toPrecision(2)}`,
    actual: error.toPrecision(3),
    hint: "use the cpu device, and report this with the output of kinora doctor --json",
  });
}

async function checkCopies(device: Device): Promise<void> {
  using hand = new Hand(device);
  const { operand, values } = hand.drawn("f32", [12_345]);
  const twin = hand.empty("f32", [12_345]);
  device.copy(operand.block, 0, twin.block, 0, values.byteLength);
  const back = await hand.read(twin);
  if (back.every((value, i) => value === values[i])) return;
  throw new KinoraError("device.self-test", "data copied to the device and back is not the same", {
    hint: "use the cpu device; if other programs fail on this GPU too, it may be faulty",
  });
}

/** [rows, inner]·[columns, inner]ᵀ, as a Linear multiplies. */
async function checkProduct(device: Device, dtype: DType): Promise<void> {
  using hand = new Hand(device);
  const [rows, columns, inner] = [70, 48, 96];
  const [x, weight] = [hand.drawn(dtype, [rows, inner]), hand.drawn(dtype, [columns, inner])];
  const out = hand.empty(dtype, [rows, columns]);
  device.kernels.linear(x.operand, { dtype, shape: [columns, inner], plain: weight.operand }, out);
  const expected = Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    let sum = 0;
    for (let k = 0; k < inner; k++) sum += x.values[row * inner + k]! * weight.values[column * inner + k]!;
    return sum;
  });
  expectClose(`a product in ${dtype}`, dtype, await hand.read(out), expected);
}

/** One head of 128, as the transformers have them. */
async function checkAttention(device: Device, dtype: DType): Promise<void> {
  using hand = new Hand(device);
  const [queries, keys, dim] = [40, 70, 128];
  const q = hand.drawn(dtype, [1, queries, 1, dim]);
  const [k, v] = [hand.drawn(dtype, [1, keys, 1, dim]), hand.drawn(dtype, [1, keys, 1, dim])];
  const out = hand.empty(dtype, [1, queries, 1, dim]);
  const scale = 1 / Math.sqrt(dim);
  device.kernels.attention(q.operand, k.operand, v.operand, out, { scale });
  const expected = new Float32Array(queries * dim);
  for (let row = 0; row < queries; row++) {
    const scores = Array.from({ length: keys }, (_, key) => {
      let sum = 0;
      for (let i = 0; i < dim; i++) sum += q.values[row * dim + i]! * k.values[key * dim + i]!;
      return sum * scale;
    });
    const most = Math.max(...scores);
    const shares = scores.map((score) => Math.exp(score - most));
    const total = shares.reduce((sum, share) => sum + share, 0);
    for (let i = 0; i < dim; i++) {
      expected[row * dim + i] = shares.reduce((sum, share, key) => sum + share * v.values[key * dim + i]!, 0) / total;
    }
  }
  expectClose(`attention in ${dtype}`, dtype, await hand.read(out), expected);
}

/** Throws `device.self-test` where the device computes wrong; milliseconds. */
export async function checkDevice(device: Device): Promise<void> {
  await checkCopies(device);
  for (const dtype of device.productTypes) {
    await checkProduct(device, dtype);
    await checkAttention(device, dtype);
  }
}

export interface MeasuredDevice {
  /** Per second. */
  productFlops: number;
  attentionFlops: number;
  uploadBytes: number;
  downloadBytes: number;
}

/** Seconds from which a run of the work tells of the device and not of what surrounds it. */
const TELLING = 0.02;

/** Measures ever larger sizes until a run takes long enough; what was measured at last. */
async function grown(largest: number, measure: (size: number) => Promise<{ seconds: number; work: number }>) {
  for (let size = Math.min(largest, 256); ; size = Math.min(largest, size * 2)) {
    const { seconds, work } = await measure(size);
    if (size === largest || seconds > TELLING) return work / seconds;
  }
}

/** In a few seconds, on sizes up to those of the descriptor. Attention has 8 heads of 128. */
export async function measureDevice(
  device: Device,
  { product, vector }: DeviceDescriptor["speedSizes"],
): Promise<MeasuredDevice> {
  const dtype = device.productTypes[0]!;
  const { kernels } = device;
  const operands = (hand: Hand, count: number, shape: readonly number[]): Operand[] =>
    Array.from({ length: count }, () => {
      const operand = hand.empty(dtype, shape);
      kernels.fill(operand, 0.5);
      return operand;
    });
  const productFlops = await grown(product, async (side) => {
    using hand = new Hand(device);
    const [a, b, c] = operands(hand, 3, [side, side]);
    return { seconds: await fastest(device, 0.1, () => kernels.matmul(a!, b!, c!)), work: 2 * side ** 3 };
  });
  const attentionFlops = await grown(product, async (tokens) => {
    using hand = new Hand(device);
    const [heads, dim] = [8, 128];
    const [q, k, v, out] = operands(hand, 4, [1, tokens, heads, dim]);
    const attend = () => kernels.attention(q!, k!, v!, out!, { scale: 1 / Math.sqrt(dim) });
    return { seconds: await fastest(device, 0.1, attend), work: 4 * tokens ** 2 * heads * dim };
  });
  using hand = new Hand(device);
  const bytes = Math.min(vector * 4, 64 * 2 ** 20);
  const host = new Uint8Array(bytes);
  const { block } = hand.empty("u8", [bytes]);
  const up = await fastest(device, 0.2, () => device.upload(block, 0, host));
  const down = await fastest(device, 0.2, () => device.download(block, 0, bytes));
  return { productFlops, attentionFlops, uploadBytes: bytes / up, downloadBytes: bytes / down };
}
