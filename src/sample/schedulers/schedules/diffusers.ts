// diffusers' FlowMatchEulerDiscreteScheduler, which shifts twice: its table, and what lies evenly between its ends.
// https://github.com/huggingface/diffusers/blob/v0.36.0/src/diffusers/schedulers/scheduling_flow_match_euler_discrete.py
import { z } from "zod";
import { defineSchedule, evenly, shifted } from "./schedule.ts";

export const diffusers = defineSchedule({
  name: "diffusers",
  help: "FlowMatchEuler's of diffusers, which shifts twice",
  options: z.strictObject({}),
  sigmas: (steps, shift) => [...evenly(1, shifted(0.001, shift), steps).map((sigma) => shifted(sigma, shift)), 0],
});
