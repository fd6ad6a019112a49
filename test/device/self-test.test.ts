// The self-test passes devices that compute right and refuses those that do not, whatever it is that they get wrong.
import { expect, it } from "vitest";
import type { Device } from "../../src/device/device.ts";
import type { Kernels } from "../../src/device/kernels.ts";
import { createReferenceDevice } from "../../src/device/reference/reference-device.ts";
import { checkDevice, measureDevice } from "../../src/device/self-test.ts";

it("passes the reference device, in every format of its products, and leaves nothing", async () => {
  const device = createReferenceDevice();
  for (const dtype of ["f32", "bf16"] as const) await checkDevice({ ...device, productTypes: [dtype] });
  expect(device.memory().live).toBe(0);
  device[Symbol.dispose]();
});

const faults: readonly [what: string, (device: Device) => Partial<Device>, RegExp][] = [
  ["a product with three rows too small", ({ kernels }) => ({ kernels: withWrongRows(kernels, 3) }), /product/],
  ["attention that does nothing", ({ kernels }) => ({ kernels: { ...kernels, attention() {} } }), /attention/],
  [
    "attention with another scale",
    ({ kernels }) => ({
      kernels: {
        ...kernels,
        attention: (q, k, v, out, options, sums) => kernels.attention(q, k, v, out, { ...options, scale: 1 }, sums),
      },
    }),
    /attention/,
  ],
  [
    "a copy that loses its end",
    (device) => ({
      copy: (source, from, target, to, bytes) => device.copy(source, from, target, to, bytes - 4),
    }),
    /copied/,
  ],
  [
    "results that are no numbers",
    ({ kernels }) => ({
      kernels: { ...kernels, linear: (_x, _weight, out) => kernels.fill(out, Number.NaN) },
    }),
    /product/,
  ],
];

/** Linears whose first rows are a fifth too small. */
function withWrongRows(kernels: Kernels, rows: number): Kernels {
  return {
    ...kernels,
    linear(x, weight, out, options) {
      kernels.linear(x, weight, out, options);
      const columns = out.shape.at(-1)!;
      const part = { block: out.block, offset: out.offset, dtype: out.dtype, shape: [rows, columns] };
      kernels.affine(part, 0.8, undefined, 0, part);
    },
  };
}

it.each(faults)("refuses %s", async (_what, change, message) => {
  const device = createReferenceDevice();
  const faulty = { ...device, ...change(device) };
  await expect(checkDevice(faulty)).rejects.toMatchObject({
    code: "device.self-test",
    message: expect.stringMatching(message),
    hint: expect.any(String),
  });
  expect(device.memory().live).toBe(0);
  device[Symbol.dispose]();
});

it("measures products, attention and copies each way", async () => {
  const device = createReferenceDevice();
  const measured = await measureDevice({ ...device, productTypes: ["f32"] }, { product: 32, vector: 1 << 10 });
  for (const rate of Object.values(measured)) expect(rate).toBeGreaterThan(0);
  expect(Object.keys(measured).sort()).toEqual(["attentionFlops", "downloadBytes", "productFlops", "uploadBytes"]);
  expect(device.memory().live).toBe(0);
  device[Symbol.dispose]();
});
