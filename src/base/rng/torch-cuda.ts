// The numbers of torch.randn on an NVIDIA GPU, so that a seed gives the noise it gives in the official code.
// PyTorch deals a tensor out to as many threads as the GPU holds at once, each with its own Philox stream: which
// number lands where depends on the GPU once a tensor has more elements than it has threads. Values agree to about
// 1e-6, not to the bit: the GPU takes sine and cosine from its approximate instructions.
// https://github.com/pytorch/pytorch/blob/v2.7.0/aten/src/ATen/native/cuda/DistributionTemplates.h
import { KinoraError } from "../errors.ts";
import { philoxBlock } from "./philox.ts";
import { type Seed, seedWords } from "./seed.ts";

const f32 = Math.fround;

/** What of a GPU decides the order of its random numbers (`torch.cuda.get_device_properties`). */
export interface GpuThreads {
  multiprocessors: number;
  threadsPerMultiprocessor: number;
}

/** By the names people use; both figures are those of the product as sold. */
export const gpuThreads = {
  A10: { multiprocessors: 72, threadsPerMultiprocessor: 1536 },
  A100: { multiprocessors: 108, threadsPerMultiprocessor: 2048 },
  A6000: { multiprocessors: 84, threadsPerMultiprocessor: 1536 },
  B200: { multiprocessors: 148, threadsPerMultiprocessor: 2048 },
  H100: { multiprocessors: 132, threadsPerMultiprocessor: 2048 },
  "H100 PCIe": { multiprocessors: 114, threadsPerMultiprocessor: 2048 },
  H20: { multiprocessors: 78, threadsPerMultiprocessor: 2048 },
  H200: { multiprocessors: 132, threadsPerMultiprocessor: 2048 },
  L40S: { multiprocessors: 142, threadsPerMultiprocessor: 1536 },
  "RTX 3090": { multiprocessors: 82, threadsPerMultiprocessor: 1536 },
  "RTX 4080": { multiprocessors: 76, threadsPerMultiprocessor: 1536 },
  "RTX 4090": { multiprocessors: 128, threadsPerMultiprocessor: 1536 },
  "RTX 5090": { multiprocessors: 170, threadsPerMultiprocessor: 1536 },
  "RTX 6000 Ada": { multiprocessors: 142, threadsPerMultiprocessor: 1536 },
} as const satisfies Record<string, GpuThreads>;

const BLOCK_THREADS = 256;
/** Numbers of one Philox block, which a thread uses for four elements far apart. */
const UNROLL = 4;
/** PyTorch splits larger tensors, whose byte offsets exceed 31 bits, into several launches. */
const MAX_COUNT = 2 ** 29;

/** torch.Generator("cuda").manual_seed(seed) on a certain GPU. */
export class TorchCudaGenerator {
  readonly #low: number;
  readonly #high: number;
  readonly #gpu: GpuThreads;
  /** Philox blocks that earlier calls used up in every thread's stream. */
  #blocks = 0;

  /** Throws `rng.seed`. */
  constructor(seed: Seed, gpu: GpuThreads = gpuThreads.H100) {
    ({ low: this.#low, high: this.#high } = seedWords(seed));
    this.#gpu = gpu;
  }

  /** torch.randn(count, device="cuda", generator=self): float32, of any shape. Throws `rng.count`. */
  normal(count: number): Float32Array {
    if (!Number.isInteger(count) || count < 0 || count >= MAX_COUNT) {
      throw new KinoraError("rng.count", "too many random numbers for one call", {
        expected: `an integer below ${MAX_COUNT}`,
        actual: String(count),
      });
    }
    const values = new Float32Array(count);
    if (count === 0) return values;
    const { multiprocessors, threadsPerMultiprocessor } = this.#gpu;
    const resident = multiprocessors * Math.floor(threadsPerMultiprocessor / BLOCK_THREADS);
    const threads = BLOCK_THREADS * Math.min(resident, Math.ceil(count / BLOCK_THREADS));
    const rounds = Math.ceil(count / (threads * UNROLL));
    const words = new Uint32Array(4);
    for (let round = 0; round < rounds; round++) {
      const block = this.#blocks + round;
      for (let thread = 0; thread < threads; thread++) {
        const first = thread + round * threads * UNROLL;
        if (first >= count) break;
        philoxBlock(block >>> 0, Math.floor(block / 2 ** 32), thread, 0, this.#low, this.#high, words);
        for (let k = 0; k < UNROLL; k += 2) {
          const radius = f32(Math.sqrt(f32(-2 * f32(Math.log(unit(words[k]!))))));
          const angle = turn(words[k + 1]!);
          // Sine first: cuRAND's order.
          if (first + k * threads < count) values[first + k * threads] = f32(Math.sin(angle)) * radius;
          if (first + (k + 1) * threads < count) values[first + (k + 1) * threads] = f32(Math.cos(angle)) * radius;
        }
      }
    }
    this.#blocks += rounds;
    return values;
  }
}

/**
 * torch.randn(count, device="cuda", generator=torch.Generator("cuda").manual_seed(seed)), on an H100 unless told.
 * Up to 196,608 elements it is the same on every GPU with at least 768 resident blocks of 256 threads.
 */
export function torchCudaNormal(seed: Seed, count: number, gpu: GpuThreads = gpuThreads.H100): Float32Array {
  return new TorchCudaGenerator(seed, gpu).normal(count);
}

const UNIT = 2 ** -32;
const TURN = f32(2 * Math.PI * UNIT);

/** A word as a float32 in (0, 1]. */
function unit(word: number): number {
  return f32(f32(word) * UNIT + UNIT / 2);
}

/** A word as an angle in (0, 2π]. */
function turn(word: number): number {
  return f32(f32(word) * TURN + TURN / 2);
}
