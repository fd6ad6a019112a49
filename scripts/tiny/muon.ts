// Muon as kinora-tiny is trained with it: on matrices that are wide enough and not at the network's ends, in bf16 products,
// with AdamW's length of a step. From nothing to a trained network in about half of AdamW's steps.
import { createMuon as create } from "../../src/train/optimizers/muon.ts";
import type { Optimizer, OptimizerContext } from "../../src/train/optimizers/optimizer.ts";

/** Narrower than this, orthogonal rows say little. */
const NARROWEST = 8;

export interface MuonSettings {
  momentum: number;
  /** Names that AdamW keeps although they are matrices: embeddings, first and last layers. */
  exclude: RegExp;
  betas: readonly [number, number];
  weightDecay: number;
}

export const createMuon = (context: OptimizerContext, { exclude, ...settings }: MuonSettings): Optimizer =>
  create(context, {
    ...settings,
    nesterov: true,
    steps: 5,
    coefficients: [3.4445, -4.775, 2.0315],
    eps: 1e-12,
    length: "match_rms_adamw",
    takes: (name, rows, columns) => Math.min(rows, columns) >= NARROWEST && !exclude.test(name),
    dtype: "bf16",
  });
