// Fixtures of single operations and their gradients.
import type { Device } from "../../../src/device/device.ts";
import { rotationTable } from "../../../src/models/wan/dit/rotation.ts";
import {
  activation,
  attention,
  concat,
  conv3d,
  gatedAdd,
  layerNorm,
  permute,
  repeat,
  rmsNorm,
  rope,
} from "../../../src/tensor/ops/index.ts";
import { openScope } from "../../../src/tensor/scope.ts";
import { Tape } from "../../../src/tensor/tape.ts";
import type { Tensor } from "../../../src/tensor/tensor.ts";
import type { Fixture } from "../fixture.ts";

/** Runs `forward` on leaves made of the named inputs, then backward from dy; compares y and each gradient. */
async function withGradients(
  fixture: Fixture,
  device: Device,
  prefix: string,
  inputs: Record<string, { gradient: string; shape?: readonly number[] }>,
  forward: (leaves: Record<string, Tensor>) => Tensor,
): Promise<void> {
  using _scope = openScope(device);
  using tape = new Tape(device);
  const leaves = Object.fromEntries(
    Object.entries(inputs).map(([name, { shape }]) => [
      name,
      fixture.tensor(device, `inputs.${prefix}${name}`, shape).requireGradient(),
    ]),
  );
  const y = forward(leaves);
  await fixture.compareTensor(`${prefix}y`, y);
  tape.backward(y, fixture.tensor(device, `inputs.${prefix}dy`, y.shape));
  for (const [name, { gradient }] of Object.entries(inputs)) {
    await fixture.compareTensor(`${prefix}${gradient}`, leaves[name]!.gradient!);
    leaves[name]!.clearGradient();
  }
}

const gradientOf = (...names: string[]) =>
  Object.fromEntries(names.map((name) => [name, { gradient: `grad_${name}` }]));

export async function attentionGrad(fixture: Fixture, device: Device): Promise<void> {
  for (const { key } of fixture.config.cases as { key: string }[]) {
    const lengths = `inputs.${key}.k_lens`;
    await withGradients(fixture, device, `${key}.`, gradientOf("q", "k", "v"), ({ q, k, v }) =>
      attention(q!, k!, v!, fixture.has(lengths) ? { keyLengths: fixture.integers(lengths) } : {}),
    );
  }
}

export async function geluTanhGrad(fixture: Fixture, device: Device): Promise<void> {
  for (const prefix of prefixes(fixture)) {
    await withGradients(fixture, device, prefix, gradientOf("x"), ({ x }) => activation("gelu-tanh", x!));
  }
}

export async function layerNormModulateGrad(fixture: Fixture, device: Device): Promise<void> {
  const eps = fixture.config.eps as number;
  const runsOf = (table: readonly number[], tokens: number) =>
    table[1] === 1
      ? [{ start: 0, count: tokens, row: 0 }]
      : Array.from({ length: tokens }, (_, i) => ({ start: i, count: 1, row: i }));
  const rows = (name: string): readonly number[] => {
    const shape = fixture.shape(name);
    return [shape[0]! * shape[1]!, shape[2]!];
  };
  for (const prefix of prefixes(fixture)) {
    const input = (name: string) => `inputs.${prefix}${name}`;
    const tokens = fixture.shape(input("x")).at(-2)!;
    if (fixture.has(input("gate"))) {
      const shape = { gradient: "grad_gate", shape: rows(input("gate")) };
      await withGradients(fixture, device, prefix, { ...gradientOf("x", "y"), gate: shape }, ({ x, y, gate }) =>
        gatedAdd(x!, y!, gate!, runsOf(fixture.shape(input("gate")), tokens)),
      );
    } else if (fixture.has(input("scale"))) {
      const table = (name: string) => ({ gradient: `grad_${name}`, shape: rows(input(name)) });
      await withGradients(
        fixture,
        device,
        prefix,
        { ...gradientOf("x"), scale: table("scale"), shift: table("shift") },
        ({ x, scale, shift }) =>
          layerNorm(x!, {
            eps,
            modulation: { scale: scale!, shift: shift!, runs: runsOf(fixture.shape(input("scale")), tokens) },
          }),
      );
    } else if (fixture.has(input("weight"))) {
      await withGradients(fixture, device, prefix, gradientOf("x", "weight", "bias"), ({ x, weight, bias }) =>
        layerNorm(x!, { eps, weight: weight!, bias: bias! }),
      );
    } else {
      await withGradients(fixture, device, prefix, gradientOf("x"), ({ x }) => layerNorm(x!, { eps }));
    }
  }
}

export async function rmsNormGrad(fixture: Fixture, device: Device): Promise<void> {
  const { eps_rows, eps_channels } = fixture.config as { eps_rows: number; eps_channels: number };
  for (const prefix of prefixes(fixture)) {
    const input = (name: string) => `inputs.${prefix}${name}`;
    if (fixture.has(input("gamma"))) {
      const channels = fixture.shape(input("x"))[1]!;
      const inputs = { ...gradientOf("x"), gamma: { gradient: "grad_gamma", shape: [channels] } };
      await withGradients(fixture, device, prefix, inputs, ({ x, gamma }) =>
        channelsFirst(rmsNorm(channelsLast(x!), gamma!, { eps: eps_channels, kind: "l2" })),
      );
    } else if (fixture.has(input("weight"))) {
      await withGradients(fixture, device, prefix, gradientOf("x", "weight"), ({ x, weight }) =>
        rmsNorm(x!, weight!, { eps: eps_rows, kind: "mean" }),
      );
    } else {
      await withGradients(fixture, device, prefix, gradientOf("x"), ({ x }) => activation("silu", x!));
    }
  }
}

export async function ropeGrad(fixture: Fixture, device: Device): Promise<void> {
  const { grid, head_dim } = fixture.config as { grid: [number, number, number]; head_dim: number };
  const rotation = rotationTable(device, grid, head_dim);
  for (const prefix of prefixes(fixture)) {
    await withGradients(fixture, device, prefix, gradientOf("x"), ({ x }) => rope(x!, rotation));
  }
  rotation.cos[Symbol.dispose]();
  rotation.sin[Symbol.dispose]();
}

export async function conv3dGrad(fixture: Fixture, device: Device): Promise<void> {
  const three = (values: readonly number[]) => values as unknown as readonly [number, number, number];
  const described = new Map((fixture.config.cases as ConvolutionCase[]).map((entry) => [entry.key, entry]));
  for (const prefix of prefixes(fixture)) {
    const key = prefix.slice(0, -1);
    const input = (name: string) => `inputs.${prefix}${name}`;
    // 2D weights are 3D ones with a depth of one; pictures are clips with a frame of one.
    const flat = fixture.shape(input("weight")).length === 4;
    const deep = (name: string, at: number) => {
      const shape = fixture.shape(input(name));
      return flat ? [...shape.slice(0, at), 1, ...shape.slice(at)] : shape;
    };
    const inputs: Record<string, { gradient: string; shape?: readonly number[] }> = {
      x: { gradient: "grad_x", shape: deep("x", 2) },
      weight: { gradient: "grad_weight", shape: deep("weight", 2) },
      bias: { gradient: "grad_bias" },
      ...(fixture.has(input("cache")) ? { cache: { gradient: "grad_cache" } } : {}),
    };
    const { stride, padding } = convolutionOf(key, described.get(key));
    await withGradients(fixture, device, prefix, inputs, ({ x, weight, bias, cache }) => {
      let frames = channelsLast(x!);
      if (cache) frames = concat([channelsLast(cache), frames], 1);
      if (key === "up2d") frames = repeat(repeat(frames, 2, 2), 3, 2);
      return channelsFirst(conv3d(frames, weight!, bias, { stride: three(stride), padding }));
    });
  }
}

interface ConvolutionCase {
  key: string;
  stride: number[];
  padding: number[];
  cached_frames: number;
}

type Padding = readonly [readonly [number, number], readonly [number, number], readonly [number, number]];

/** Causal: 2·pad frames of zeros before (cached frames stand in for some) and none after. */
function convolutionOf(key: string, described: ConvolutionCase | undefined): { stride: number[]; padding: Padding } {
  if (described) {
    const [t, h, w] = described.padding as [number, number, number];
    return {
      stride: described.stride,
      padding: [
        [2 * t - described.cached_frames, 0],
        [h, h],
        [w, w],
      ],
    };
  }
  if (key === "down2d")
    return {
      stride: [1, 2, 2],
      padding: [
        [0, 0],
        [0, 1],
        [0, 1],
      ],
    };
  if (key === "up2d")
    return {
      stride: [1, 1, 1],
      padding: [
        [0, 0],
        [1, 1],
        [1, 1],
      ],
    };
  return {
    stride: [1, 2, 2],
    padding: [
      [0, 0],
      [0, 0],
      [0, 0],
    ],
  };
}

/** The cases of a file: what stands between `inputs.` and the last name, "" included. */
function prefixes(fixture: Fixture): string[] {
  return [...new Set(fixture.names("inputs.").map((name) => name.slice("inputs.".length, name.lastIndexOf(".") + 1)))];
}

/** [B, C, ...] → [B, ..., C] and back, gradients included. */
function channelsLast(x: Tensor): Tensor {
  return permute(x, [0, ...x.shape.slice(2).map((_, i) => i + 2), 1]);
}

function channelsFirst(x: Tensor): Tensor {
  return permute(x, [0, x.shape.length - 1, ...x.shape.slice(2).map((_, i) => i + 1)]);
}
