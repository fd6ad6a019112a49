// Below the jobs: tensors, gradients, a kernel, and a sampler of one's own on a Wan network. Run: npx tsx engine.ts
import {
  type Device,
  embedPrompt,
  findCheckpointFiles,
  fromValues,
  latentSize,
  loadDit,
  loadTextEncoder,
  loadVae,
  openDevice,
  openScope,
  openTokenizer,
  ops,
  philoxNormals,
  promptTokens,
  Tape,
  type Tensor,
  wanModels,
} from "kinora/engine";

/** Normal numbers, the same for a seed on every device. */
function normals(count: number, seed: bigint): Float32Array {
  const values = new Float32Array(count);
  philoxNormals(seed, 0, 0, values);
  return values;
}

/** Finds the weights of a linear layer from what it gave, by gradient descent. Returns the last loss. */
async function fitLinear(device: Device): Promise<number> {
  using _all = openScope(device); // frees what is made until the block ends
  const x = fromValues(device, normals(64 * 8, 1n), [64, 8]);
  const hidden = fromValues(device, normals(4 * 8, 2n), [4, 8]);
  const target = ops.linear(x, hidden); // x·Wᵀ: [64, 8] and [4, 8] → [64, 4]
  const weight = fromValues(device, new Float32Array(4 * 8), [4, 8]).requireGradient();
  let last = Number.NaN;
  for (let step = 0; step < 60; step++) {
    using _step = openScope(device);
    using tape = new Tape(device); // notes what is computed from `weight`
    const loss = ops.meanSquaredError(ops.linear(x, weight), target);
    tape.backward(loss);
    // A kernel writes into what it is given: weight = 1·weight − 1.5·gradient.
    device.kernels.affine(weight, 1, weight.gradient!, -1.5, weight);
    weight.clearGradient();
    last = await loss.item();
  }
  return last;
}

/** Each step asks the model twice, at its beginning and at its end, and goes along the mean (Heun's method). */
async function heun(
  sample: Float32Array,
  sigmas: readonly number[],
  velocity: (sample: Float32Array, sigma: number) => Promise<Float32Array>,
): Promise<Float32Array> {
  let at = sample;
  for (const [i, from] of sigmas.slice(0, -1).entries()) {
    const to = sigmas[i + 1]!;
    const first = await velocity(at, from);
    const reached = at.map((value, k) => value + (to - from) * first[k]!);
    const second = to === 0 ? first : await velocity(reached, to);
    at = at.map((value, k) => value + ((to - from) * (first[k]! + second[k]!)) / 2);
  }
  return at;
}

/** Makes a clip by {@link heun}; returns its mean red, green and blue, each −1…1. */
async function film(device: Device, prompt: string): Promise<number[]> {
  const model = wanModels["tiny-ti2v"];
  const files = findCheckpointFiles(model, {});
  const { shape } = latentSize(model, { width: 128, height: 128, frames: 9 });

  const tokenizer = await openTokenizer(files.tokenizer);
  using encoder = loadTextEncoder(device, files.textEncoder, { dtype: "f32" });
  const embed = (text: string) => embedPrompt(encoder, promptTokens(tokenizer, text, model.dit.textLength));
  const [wanted, other] = [await embed(prompt), await embed("")];

  using dit = loadDit(device, files.low, { dtype: "f32" });
  const run = async (sample: Float32Array, sigma: number, text: typeof wanted): Promise<Float32Array> => {
    using _pass = openScope(device);
    const velocity: Tensor = dit.forward({
      latents: fromValues(device, sample, [1, ...shape]),
      timesteps: [1000 * sigma],
      texts: [fromValues(device, text.values, [text.tokens, model.dit.textDim])],
    });
    return velocity.read();
  };
  /** Classifier-free guidance of scale 3. */
  const guided = async (sample: Float32Array, sigma: number): Promise<Float32Array> => {
    const [towards, away] = [await run(sample, sigma, wanted), await run(sample, sigma, other)];
    return towards.map((value, i) => away[i]! + 3 * (value - away[i]!));
  };

  const noise = normals(
    shape.reduce((product, size) => product * size, 1),
    7n,
  );
  const shifted = (level: number) => (5 * level) / (1 + 4 * level);
  const latents = await heun(noise, [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0].map(shifted), guided);

  using vae = loadVae(device, files.vae, { dtype: "f32", half: "decoder" });
  using _decoding = openScope(device);
  const pixels = vae.decode(fromValues(device, latents, shape)); // [3, 9, 128, 128]
  return [...(await ops.mean(ops.reshape(pixels, [3, pixels.size / 3]), [1]).read())];
}

using device = (await openDevice("auto")).device;
console.log(`device ${device.name}`);
console.log(`the loss after 60 steps: ${await fitLinear(device)}`);
const [red, green, blue] = await film(device, "a red circle moves to the right on a blue background");
console.log(`the film's mean colour: red ${red!.toFixed(2)}, green ${green!.toFixed(2)}, blue ${blue!.toFixed(2)}`);
console.log(`bytes that are left on the device: ${device.memory().live}`);
