// What the demo makes and where it puts it: every number that decides its result or its length is here.
import { join } from "node:path";
import { wanModels } from "../../src/models/wan/params.ts";
import { captionOf } from "../tiny/world/captions.ts";
import type { ClipSize } from "../tiny/world/render.ts";
import { drawScene, type Scene, type SceneAttributes, type Split } from "../tiny/world/scene.ts";

/** The words that call the style. To the model as it ships they mean nothing. */
export const TRIGGER = "neon style";

export const model = wanModels["tiny-t2v"];

export interface DemoSettings {
  /** Where everything is put; absolute. */
  folder: string;
  /** A checkpoint folder instead of the one that ships with Kinora; absolute. */
  checkpoint: string | undefined;
  /** Clips to learn from; the last `heldOut` of them only judge. */
  clips: number;
  /** Prompts, each of which is generated twice. */
  prompts: number;
  train: {
    steps: number;
    batchSize: number;
    rank: number;
    learningRate: number;
    /** Of the steps, for the high-noise expert: the layout of a scene is lost more easily than its look is learned. */
    highShare: number;
    heldOut: number;
    /** Steps between judging on the held-out clips; checkpoints come at every second time. */
    judgeEvery: number;
  };
  /** Sampling steps; the model's own where undefined. */
  sampleSteps: number | undefined;
}

export const defaultSettings: Omit<DemoSettings, "folder" | "checkpoint"> = {
  clips: 40,
  prompts: 40,
  train: { steps: 1600, batchSize: 8, rank: 16, learningRate: 1.2e-3, highShare: 0.25, heldOut: 4, judgeEvery: 200 },
  sampleSteps: undefined,
};

/** Everything the demo writes. */
export function demoFiles(folder: string) {
  return {
    clips: join(folder, "clips"),
    config: join(folder, "train.toml"),
    previewPrompts: join(folder, "prompts.txt"),
    run: join(folder, "run"),
    videos: join(folder, "videos"),
    work: join(folder, "work.json"),
    measures: join(folder, "measures.json"),
    picture: join(folder, "result.png"),
    report: join(folder, "report.html"),
  };
}

/**
 * How much larger than the model's videos the clips are drawn: real clips are too, and the dataset's own scaling is then
 * part of what is shown.
 */
const MAGNIFIED = 4;

export const clipSize: ClipSize & { fps: number } = {
  width: MAGNIFIED * model.defaults.width,
  height: MAGNIFIED * model.defaults.height,
  frames: model.defaults.frames,
  fps: model.defaults.fps,
};

export interface DemoScene {
  scene: Scene;
  /** The scene in words, behind the trigger phrase. */
  text: string;
  /** What the words say, which is what is measured. */
  says: SceneAttributes;
}

/** The first seeds whose scenes nothing else in the repository draws. */
const SEEDS = { clips: 4001, prompts: 4002 } as const;

function demoScenes(seed: number, count: number, split: Split): DemoScene[] {
  return Array.from({ length: count }, (_, i) => {
    const scene = drawScene(seed, i, split);
    const { text, says } = captionOf(scene, seed, i);
    return { scene, text: `${TRIGGER}, ${text}`, says };
  });
}

/** What the LoRA learns from. */
export const trainingScenes = (count: number): DemoScene[] => demoScenes(SEEDS.clips, count, "train");

export interface DemoPrompt extends DemoScene {
  index: number;
  /** Of the noise, with and without the LoRA. */
  seed: bigint;
}

/** Combinations that neither the model nor the LoRA was trained on. */
export const heldOutPrompts = (count: number): DemoPrompt[] =>
  demoScenes(SEEDS.prompts, count, "held-out").map((scene, index) => ({ ...scene, index, seed: BigInt(1000 + index) }));
