// The jobs that look: at this machine, and at what a film says of itself.
import { z } from "zod";
import { requestPath } from "../config-values.ts";
import { recipeSchema } from "../recipe.ts";
import { contract, noEvents } from "./contract.ts";

/** The job that reads the recipe in a film or in saved latents. */
export const readRecipeContract = contract({
  name: "read-recipe",
  /** A film that Kinora wrote, or saved latents. */
  request: z.strictObject({ path: requestPath }),
  event: noEvents,
  result: recipeSchema,
});

/** The job that examines this machine. */
export const doctorContract = contract({
  name: "doctor",
  request: z.strictObject({}),
  event: noEvents,
  result: z.object({
    kinora: z.object({ version: z.string(), folder: z.string() }),
    machine: z.object({
      node: z.string(),
      platform: z.string(),
      architecture: z.string(),
      system: z.string(),
      processor: z.object({
        model: z.string(),
        cores: z.int(),
        /** Cores this process may use. */
        usable: z.int(),
        instructions: z.array(z.string()).optional(),
      }),
      memory: z.object({ total: z.number(), available: z.number() }),
    }),
    oneDnn: z.union([z.object({ version: z.string(), file: z.string() }), z.object({ missing: z.string() })]),
    ffmpeg: z.object({ version: z.string(), h264Encoder: z.boolean(), missingDecoders: z.array(z.string()) }),
    nvidia: z.object({
      gpus: z.array(z.object({ bus: z.string(), model: z.string().optional() })),
      driver: z.object({ version: z.string().optional(), library: z.string().optional() }).optional(),
      toolkits: z.array(z.object({ folder: z.string(), version: z.string().optional() })),
      packages: z.array(z.object({ name: z.string(), version: z.string(), folder: z.string() })),
      libraries: z.array(z.object({ name: z.string(), file: z.string(), major: z.int() })),
    }),
    /** The cuda device: what it would open here, and how its self-test went. */
    cuda: z.object({
      /** How far it is proven. */
      state: z.string(),
      driver: z.object({ library: z.string(), release: z.string() }).optional(),
      cards: z.array(z.object({ name: z.string(), capability: z.int(), memory: z.number() })),
      cublasLt: z.string().optional(),
      nvrtc: z.string().optional(),
      /** Compiled kernels came with the package. */
      shipped: z.boolean(),
      command: z.string().optional(),
      /** On the first card, per second. */
      selfTest: z
        .union([
          z.object({
            productFlops: z.number(),
            attentionFlops: z.number(),
            uploadBytes: z.number(),
            downloadBytes: z.number(),
          }),
          z.object({ failed: z.string(), hint: z.string().optional() }),
        ])
        .optional(),
    }),
    devices: z.array(
      z.object({
        name: z.string(),
        help: z.string(),
        /** `auto` may take it. */
        automatic: z.boolean(),
        usable: z.boolean(),
        /** This machine has nothing of the kind. */
        absent: z.boolean().optional(),
        /** What it is here, where it is usable. */
        what: z.string().optional(),
        /** What keeps it from being used, and what to do about it. */
        why: z.string().optional(),
        hint: z.string().optional(),
      }),
    ),
    /** What `auto` opens. */
    device: z.object({
      name: z.string(),
      why: z.string(),
      /** Bytes. */
      capacity: z.object({ total: z.number(), free: z.number() }),
      /** What it computes products in. */
      products: z.array(z.string()).readonly(),
    }),
    /** That ship with Kinora. */
    models: z.array(z.object({ name: z.string(), folder: z.string(), missing: z.array(z.string()) })),
    /** Free bytes; absent where the system does not say. */
    folders: z.array(
      z.object({ name: z.enum(["cache", "working folder"]), path: z.string(), free: z.number().optional() }),
    ),
    advice: z.array(
      z.object({
        what: z.string(),
        why: z.string(),
        /** As a person types it. */
        command: z.string().optional(),
      }),
    ),
  }),
});
