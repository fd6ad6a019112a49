import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  kohyaHashes,
  legacyHash,
  modelSpecMetadata,
  pythonArgument,
  pythonFloat,
  pythonText,
  trainingMetadata,
} from "../../src/lora/kohya-metadata.ts";

function pattern(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 17 + (i >> 8)) & 0xff);
}

test("numbers are spelled as Python's str() spells them", () => {
  const floats: [number, string][] = [
    [1e-4, "0.0001"],
    [1e-5, "1e-05"],
    [1.5e-7, "1.5e-07"],
    [2, "2.0"],
    [0.1, "0.1"],
    [1e15, "1000000000000000.0"],
    [1e16, "1e+16"],
    [123456789012345680, "1.2345678901234568e+17"],
    [1e22, "1e+22"],
    [5e-324, "5e-324"],
    [-0, "-0.0"],
    [1732182930.123456, "1732182930.123456"],
  ];
  for (const [value, text] of floats) expect(pythonFloat(value)).toBe(text);
  expect([null, true, false, 3, "x", { float: 3 }].map(pythonText)).toEqual(["None", "True", "False", "3", "x", "3.0"]);
});

test("training facts become ss_* strings; what is unknown is left out", () => {
  const metadata = trainingMetadata({
    learningRate: 1e-5,
    network: { dim: 32, alpha: 16, dropout: 0, args: {} },
    gradientCheckpointing: true,
    steps: 200,
    datasets: [{ name: "a" }],
    mixedPrecision: "bf16",
  });
  expect(metadata).toEqual({
    ss_learning_rate: "1e-05",
    ss_gradient_checkpointing: "True",
    ss_gradient_checkpointing_cpu_offload: "False",
    ss_base_model_version: "wan",
    ss_network_module: "networks.lora_wan",
    ss_network_dim: "32",
    ss_network_alpha: "16.0",
    ss_network_dropout: "None",
    ss_mixed_precision: "bf16",
    ss_training_comment: "None",
    ss_fp8_base: "False",
    ss_full_fp16: "False",
    ss_full_bf16: "False",
    ss_weighting_scheme: "none",
    ss_logit_mean: "0.0",
    ss_logit_std: "1.0",
    ss_mode_scale: "1.29",
    ss_guidance_scale: "1.0",
    ss_sigmoid_scale: "1.0",
    ss_datasets: '[{"name":"a"}]',
    ss_steps: "200",
  });
});

test("a whole model has no network, and a file its hashes where it is one file", () => {
  const metadata = trainingMetadata({
    baseModel: { name: "wan.safetensors", legacyHash: "0123abcd", sha256: "ff" },
    vae: { name: "vae.index.json" },
  });
  expect(metadata).toMatchObject({
    ss_sd_model_name: "wan.safetensors",
    ss_sd_model_hash: "0123abcd",
    ss_new_sd_model_hash: "ff",
    ss_vae_name: "vae.index.json",
  });
  expect(Object.keys(metadata).filter((key) => /network|vae_hash/.test(key))).toEqual([]);
});

test("arguments are spelled as Python's repr() spells them", () => {
  expect([[0.9, 0.999], [1], 1e-8, 3, true, "rms", null].map(pythonArgument)).toEqual([
    "(0.9, 0.999)",
    "(1,)",
    "1e-08",
    "3",
    "True",
    "'rms'",
    "None",
  ]);
});

test("the older hash of a file is that of 64 KiB from its first mebibyte on", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kinora-hash-"));
  const bytes = pattern(0x112345, 4);
  writeFileSync(join(folder, "long"), bytes);
  writeFileSync(join(folder, "short"), bytes.subarray(0, 0x100010));
  const digest = (part: Uint8Array) => createHash("sha256").update(part).digest("hex").slice(0, 8);
  expect(await legacyHash(join(folder, "long"))).toBe(digest(bytes.subarray(0x100000, 0x110000)));
  expect(await legacyHash(join(folder, "short"))).toBe(digest(bytes.subarray(0x100000, 0x100010)));
  await expect(legacyHash(join(folder, "absent"))).rejects.toMatchObject({ code: "io.not-found" });
  rmSync(folder, { recursive: true });
});

test("the model specification's strings", () => {
  const date = new Date(2026, 0, 5, 7, 8, 9);
  expect(
    modelSpecMetadata({ title: "t", width: 832, height: 480, date, timesteps: [875, 1000], author: "me" }),
  ).toEqual({
    "modelspec.sai_model_spec": "1.0.0",
    "modelspec.architecture": "wan2.1/lora",
    "modelspec.implementation": "https://github.com/Wan-Video/Wan2.1",
    "modelspec.title": "t",
    "modelspec.resolution": "832x480",
    "modelspec.author": "me",
    "modelspec.date": "2026-01-05T07:08:09",
    "modelspec.timestep_range": "875,1000",
  });
  const fixed = { title: "t", width: 64, height: 64, date: new Date(1_700_000_000_000), utc: true };
  expect(modelSpecMetadata(fixed)["modelspec.date"]).toBe("2023-11-14T22:13:20");
});

test("the hashes are those that kohya's functions give for the same file", () => {
  // Computed in Python from the same bytes, serialised by the safetensors library 0.8.0, with the functions addnet_hash_*.
  const tensors = [
    { name: "lora_unet_b.alpha", dtype: "f32" as const, shape: [], bytes: () => pattern(4, 3) },
    { name: "lora_unet_b.lora_down.weight", dtype: "f16" as const, shape: [8, 500], bytes: () => pattern(8000, 2) },
    {
      name: "lora_unet_b.lora_up.weight",
      dtype: "f32" as const,
      shape: [400, 1000],
      bytes: () => pattern(1_600_000, 1),
    },
  ];
  const metadata = { ss_output_name: 'stil ü "x"', ss_steps: "100", "modelspec.title": "not part of the hash" };
  expect(kohyaHashes(tensors, metadata)).toEqual({
    sshs_model_hash: "0a31a0efc674a51511ac7803ee4520e24d05feeab49c34de474d82a2861db20a",
    sshs_legacy_hash: "509286f4",
  });
  const small = kohyaHashes(tensors.slice(0, 1), {});
  // Nothing lies beyond the first mebibyte: the hash of nothing.
  expect(small.sshs_legacy_hash).toBe("e3b0c442");
});
