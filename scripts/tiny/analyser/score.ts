// Right or wrong, attribute by attribute: what a clip shows against what it was asked to show.
import type { Clip } from "../world/render.ts";
import type { SceneAttributes } from "../world/scene.ts";
import { type Analysis, analyse } from "./analyse.ts";

/** The four that the quality bar counts, then what else can be measured. */
export const scored = ["color", "shape", "motion", "background", "camera", "size", "speed"] as const;
export type ScoredAttribute = (typeof scored)[number];

export interface Score {
  /** Undefined where the scene does not say. */
  right: Readonly<Record<ScoredAttribute, boolean | undefined>>;
  analysis: Analysis;
}

const unlessUnsaid = <T>(wanted: T | undefined, measured: T | undefined): boolean | undefined =>
  wanted === undefined ? undefined : wanted === measured;

/** The motion has to be right in kind and direction, the background in colour and pattern. */
export function scoreVideo(clip: Clip, scene: SceneAttributes): Score {
  const analysis = analyse(clip);
  return {
    analysis,
    right: {
      color: analysis.color.value === scene.color,
      shape: analysis.shape.value === scene.shape,
      motion: analysis.motion.value === scene.motion,
      background:
        analysis.backgroundColor.value === scene.background.color &&
        analysis.pattern.value === scene.background.pattern,
      camera: analysis.camera.value === scene.camera,
      size: unlessUnsaid(scene.size, analysis.size.value),
      speed: unlessUnsaid(scene.speed, analysis.speed.value),
    },
  };
}

export interface AttributeTally {
  right: number;
  of: number;
}

export function tally(scores: readonly Score[]): Record<ScoredAttribute | "style: neon", AttributeTally> {
  const count = (answers: readonly (boolean | undefined)[]): AttributeTally => {
    const said = answers.filter((answer) => answer !== undefined);
    return { right: said.filter(Boolean).length, of: said.length };
  };
  const attributes = scored.map((name) => [name, count(scores.map(({ right }) => right[name]))]);
  return {
    ...Object.fromEntries(attributes),
    "style: neon": count(scores.map(({ analysis }) => analysis.style.value === "neon")),
  };
}

/** A Markdown table: a row for each attribute, a column for each named set of scores. */
export function scoreTable(sets: Readonly<Record<string, readonly Score[]>>): string {
  const columns = Object.entries(sets).map(([name, scores]) => ({ name, tallied: tally(scores) }));
  const cell = ({ right, of }: AttributeTally) =>
    of === 0 ? "–" : `${((100 * right) / of).toFixed(1)} % (${right}/${of})`;
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [
    line(["attribute", ...columns.map(({ name }) => name)]),
    line(["---", ...columns.map(() => "---:")]),
    ...([...scored, "style: neon"] as const).map((name) =>
      line([name, ...columns.map(({ tallied }) => cell(tallied[name]))]),
    ),
  ].join("\n");
}
