// The passes of one evaluation under a step cache: what the cache has kept answers, the rest is computed, and what it is
// to keep is put into the run's memory. What the caches are: caches/.
import type { DitInput, WanDit } from "../models/wan/dit/dit.ts";
import { add, cast, subtract } from "../tensor/ops/index.ts";
import { openScope } from "../tensor/scope.ts";
import { fromValues, type Tensor } from "../tensor/tensor.ts";
import {
  CACHE_MEMORY,
  type CacheDecision,
  type CacheQuestion,
  keptOf,
  passName,
  type StepCache,
} from "./caches/cache.ts";
import { observeTime } from "./caches/calibration.ts";
import type { Pass, Place, RunMemory } from "./guidance/guidance.ts";

const GUIDED = `${CACHE_MEMORY}kept.guided`;
const EXPERT = `${CACHE_MEMORY}expert`;

/** What a cache did with a pass, or with the guided clip. */
export interface CacheEntry extends CacheDecision {
  pass: string;
}

/** One evaluation: made by {@link begin}, asked pass by pass, and ended. */
export class CachedEvaluation {
  readonly #cache: StepCache;
  readonly #question: CacheQuestion;
  readonly #decisions: readonly CacheDecision[];
  readonly #memory: RunMemory;

  private constructor(
    cache: StepCache,
    question: CacheQuestion,
    decisions: readonly CacheDecision[],
    memory: RunMemory,
  ) {
    this.#cache = cache;
    this.#question = question;
    this.#decisions = decisions;
    this.#memory = memory;
  }

  /** Decides; `memory` is changed. */
  static async begin(
    cache: StepCache,
    model: WanDit,
    place: Place,
    passes: readonly Pass[],
    memory: RunMemory,
  ): Promise<CachedEvaluation> {
    const expert = place.expert === "high" ? 1 : 0;
    if (!cache.acrossExperts && memory.get(EXPERT)?.[0] !== expert) {
      for (const name of [...memory.keys()]) if (name.startsWith(CACHE_MEMORY)) memory.delete(name);
    }
    memory.set(EXPERT, Float32Array.of(expert));
    const time = await timeOf(cache, model, place, memory);
    const question: CacheQuestion = { place, passes, ...(time ? { time } : {}) };
    return new CachedEvaluation(cache, question, cache.decide(question, memory), memory);
  }

  get entries(): CacheEntry[] {
    if (this.#cache.keeps === "guided") return this.#decisions.map((decision) => ({ pass: "guided", ...decision }));
    return this.#question.passes.map((pass, i) => ({ pass: passName(pass), ...this.#decisions[i]! }));
  }

  /** The velocity of the whole evaluation, where that is what was kept. */
  get guided(): Float32Array | undefined {
    if (this.#cache.keeps !== "guided" || !this.#decisions[0]!.skip) return undefined;
    const { sigma } = this.#question.place;
    return this.#memory.get(GUIDED)!.map((difference) => -difference / sigma);
  }

  /** The velocity of a pass where it needs no model. */
  kept(index: number): Float32Array | undefined {
    if (this.#cache.keeps !== "pass" || !this.#decisions[index]!.skip) return undefined;
    const difference = this.#memory.get(keptOf(this.#question.passes[index]!))!;
    const { sample } = this.#question.place;
    return difference.map((value, i) => sample[i]! + value);
  }

  /** A pass by the model, or by what its blocks added before. float32 [1, C, F, h, w], in the current scope. */
  async run(index: number, model: WanDit, input: DitInput): Promise<Tensor> {
    if (this.#cache.keeps !== "blocks") return model.forward(input);
    const pass = this.#question.passes[index]!;
    const key = keptOf(pass);
    const kept = this.#memory.get(key);
    if (kept && this.#decisions[index]!.skip) {
      const { tokens, grid } = model.patchify(input.latents);
      const time = model.embedTime(input.timesteps, grid[0] * grid[1] * grid[2]);
      const output = add(cast(tokens, "f32"), fromValues(model.device, kept, tokens.shape));
      return model.finish(output, time.embedding, time.runs, grid);
    }
    const { tokens, context, time, grid } = model.embed(input);
    const output = model.runBlocks(tokens, context, false);
    const residual = await subtract(output, tokens).read();
    if (this.#cache.observe) {
      const { place } = this.#question;
      const call = { place, pass, tokens: await tokens.read(), residual, dim: model.config.dim };
      this.#cache.observe(call, this.#memory);
    }
    this.#memory.set(key, residual);
    return model.finish(output, time.embedding, time.runs, grid);
  }

  /** Puts down what was computed: the answers of the passes, and the velocity they came to. */
  end(answers: readonly Float32Array[], velocity: Float32Array): void {
    const { place, passes } = this.#question;
    const { sample, sigma } = place;
    if (this.#cache.keeps === "guided") {
      if (this.#decisions[0]!.skip) return;
      this.#memory.set(
        GUIDED,
        velocity.map((value) => -sigma * value),
      );
      this.#cache.learn?.(this.#question, [velocity.map((value, i) => sample[i]! - sigma * value)], this.#memory);
      return;
    }
    const computed = answers.map((answer, i) => (this.#decisions[i]!.skip ? undefined : answer));
    if (this.#cache.keeps === "pass") {
      for (const [i, answer] of computed.entries()) {
        if (!answer) continue;
        this.#memory.set(
          keptOf(passes[i]!),
          answer.map((value, j) => value - sample[j]!),
        );
      }
    }
    this.#cache.learn?.(this.#question, computed, this.#memory);
  }
}

/** The time vector that the cache looks at; both are measured where it observes. */
async function timeOf(
  { looksAt, observe }: StepCache,
  model: WanDit,
  place: Place,
  memory: RunMemory,
): Promise<Float32Array | undefined> {
  if (!looksAt) return undefined;
  using _scope = openScope(model.device);
  const { embedding, projection } = model.embedTime([place.timestep], 1);
  if (!observe) return (looksAt === "embedding" ? embedding : projection).read();
  const times = { embedding: await embedding.read(), projection: await projection.read() };
  observeTime(place, times, memory);
  return times.embedding;
}
