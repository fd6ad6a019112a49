// The recipe that a film, or saved latents, carry.
import { readRecipeContract } from "../protocol/jobs/doctor.ts";
import { readRecipe } from "../sample/recipe.ts";
import { quickJob } from "./job.ts";

export const readRecipeJob = quickJob(readRecipeContract, ({ path }) => readRecipe(path));
