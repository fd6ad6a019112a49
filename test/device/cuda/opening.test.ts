// The row of the table: opened by name, by number and automatically, over the emulator as the environment names it; and what
// `kinora doctor` says with it and with parts of it missing.
import { afterEach, describe, expect, it } from "vitest";
import { main } from "../../../src/cli/main.ts";
import { cudaDescriptor } from "../../../src/device/cuda/cuda-descriptor.ts";
import { openDevice } from "../../../src/device/open-device.ts";
import { deviceChoice } from "../../../src/protocol/devices.ts";
import { emulator, emulatorControls, emulatorMissing, nothingOpen } from "./emulated.ts";

const missing = emulatorMissing();
const variables = ["CUDA_DRIVER", "CUBLASLT", "NVRTC", "CUDA_IMAGES"] as const;
const given = Object.fromEntries(variables.map((name) => [name, process.env[`KINORA_${name}`]]));

function emulate(changes: Partial<Record<(typeof variables)[number], string>> = {}): void {
  const { driver, cublasLt, images } = emulator();
  const all = { CUDA_DRIVER: driver, CUBLASLT: cublasLt, CUDA_IMAGES: images, ...changes };
  for (const [name, value] of Object.entries(all)) process.env[`KINORA_${name}`] = value;
}

async function doctor(...argv: string[]): Promise<string> {
  const data: string[] = [];
  await main(["doctor", ...argv], { data: (text) => data.push(text), note: () => {}, progress: () => {} });
  return data.join("\n");
}

it("a configuration may name a card by its number", () => {
  const answers = ["auto", "cuda", "cuda:1", "cpu", "cuda:x", "cuda:", "cpu:1", "gpu"].map(
    (choice) => deviceChoice.safeParse(choice).success,
  );
  expect(answers).toEqual([true, true, true, true, false, false, false, false]);
});

describe.skipIf(missing !== undefined)(`the cuda row${missing ? ` (${missing})` : ""}`, () => {
  afterEach(() => {
    for (const name of variables) {
      if (given[name] === undefined) delete process.env[`KINORA_${name}`];
      else process.env[`KINORA_${name}`] = given[name];
    }
    for (const name of ["COUNT", "VERSION", "CAPABILITY"]) delete process.env[`EMULATOR_${name}`];
    emulatorControls().mend();
    expect(emulatorControls().open()).toEqual(nothingOpen);
  });

  it("auto takes a card that passes its self-test, and says that it is not proven", async () => {
    emulate();
    const { device, descriptor, note } = await openDevice("auto");
    expect([device.name, descriptor]).toEqual(["cuda", cudaDescriptor]);
    expect(note).toMatch(/not yet run on a card; it passed its self-test here/);
    device[Symbol.dispose]();
  });

  it("auto goes on without a card that fails, and tells why; by name it is an error", async () => {
    emulate({ CUBLASLT: "/nowhere/libcublasLt.so.12" });
    const { device, note } = await openDevice("auto");
    expect(device.name).not.toBe("cuda");
    expect(note).toMatch(/no cuda device: .*cuBLASLt/);
    device[Symbol.dispose]();
    await expect(openDevice("cuda")).rejects.toMatchObject({ code: "cuda.no-cublas" });
    await expect(openDevice("cuda:one")).rejects.toMatchObject({ code: "device.unavailable" });
  });

  it("a card is chosen by its number", async () => {
    emulate();
    process.env.EMULATOR_COUNT = "2";
    expect(await cudaDescriptor.probe()).toMatchObject({ usable: true, what: expect.stringContaining("and 1 more") });
    const { device } = await openDevice("cuda:1");
    device[Symbol.dispose]();
    await expect(openDevice("cuda:2")).rejects.toMatchObject({ code: "cuda.no-device", expected: "0 to 1" });
  });

  it("doctor tells the card, its libraries and its speed", async () => {
    emulate();
    const report = JSON.parse(await doctor("--json"));
    expect(report.device.name).toBe("cuda");
    expect(report.cuda).toMatchObject({
      state: "emulated and statically checked; not yet run on a card",
      driver: { library: emulator().driver, release: "13.0" },
      cards: [{ name: "CUDA emulator", capability: 80 }],
      cublasLt: emulator().cublasLt,
      selfTest: { productFlops: expect.any(Number), attentionFlops: expect.any(Number) },
    });
  });

  it("doctor tells what is wrong, and the command that installs what is missing", async () => {
    emulate();
    process.env.EMULATOR_VERSION = "11080";
    expect(await doctor()).toMatch(/cuda, .*: the NVIDIA driver is too old/);
    process.env.EMULATOR_VERSION = "12040";
    delete process.env.KINORA_CUBLASLT;
    // Unless this machine has a cuBLASLt of its own.
    const { cuda, advice } = JSON.parse(await doctor("--json"));
    if (cuda.cublasLt !== undefined) return;
    expect(cuda.command).toBe("pip install nvidia-cublas-cu12");
    expect(advice).toContainEqual(expect.objectContaining({ what: "NVIDIA's libraries", command: cuda.command }));
  });
});
