// NVIDIA GPUs, drivers and libraries as their files tell, in file trees as each kind of machine has them.
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { findNvidia, type NvidiaFindings, type Place } from "../../src/device/nvidia.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();

/** A file system with these files; a value that begins with `->` is a link. */
function machine(name: string, files: Record<string, string>, place: Partial<Place> = {}): NvidiaFindings {
  const root = path(name);
  mkdirSync(root);
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    if (content.startsWith("->")) symlinkSync(content.slice(2), join(root, file));
    else writeFileSync(join(root, file), content);
  }
  const home = join(root, "home/me");
  return findNvidia({ platform: "linux", environment: {}, home, folder: join(home, "work"), root, ...place });
}

/** Paths inside the tree. */
const inside = (name: string, file: string) => join(path(name), file);

const lib = "usr/lib/x86_64-linux-gnu";
const driverText = (version: string, kind = "x86_64 Kernel Module") =>
  `NVRM version: NVIDIA UNIX ${kind}  ${version}  Tue Mar  5 22:23:56 UTC 2024\nGCC version:  gcc version 12.3.0\n`;
const gpu = (model: string) => `Model: \t\t ${model}\nIRQ:   \t\t 16\nGPU UUID: \t GPU-0\nBus Type: \t PCIe\n`;

describe("NVIDIA", () => {
  it("is not found where there is nothing", () => {
    expect(machine("bare", { "etc/hostname": "x" })).toEqual({ gpus: [], toolkits: [], packages: [], libraries: [] });
  });

  it("cards without a driver are known by the bus; other makers' and sound devices are not", () => {
    const device = (bus: string, vendor: string, kind: string) => ({
      [`sys/bus/pci/devices/${bus}/vendor`]: `${vendor}\n`,
      [`sys/bus/pci/devices/${bus}/class`]: `${kind}\n`,
    });
    const found = machine("no-driver", {
      ...device("0000:01:00.0", "0x10de", "0x030000"),
      ...device("0000:01:00.1", "0x10de", "0x040300"),
      ...device("0000:02:00.0", "0x8086", "0x030000"),
      ...device("0000:03:00.0", "0x10de", "0x030200"),
    });
    expect(found.gpus).toEqual([{ bus: "0000:01:00.0" }, { bus: "0000:03:00.0" }]);
    expect(found.driver).toBeUndefined();
  });

  it.each([
    ["550.54.15", driverText("550.54.15")],
    ["570.124", driverText("570.124", "Open Kernel Module for x86_64")],
  ])("driver %s names its cards", (version, text) => {
    const name = `driver-${version}`;
    const found = machine(name, {
      "proc/driver/nvidia/version": text,
      "proc/driver/nvidia/gpus/0000:01:00.0/information": gpu("NVIDIA GeForce RTX 4090"),
      "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de",
      "sys/bus/pci/devices/0000:01:00.0/class": "0x030000",
      [`${lib}/libcuda.so.1`]: `->libcuda.so.${version}`,
      [`${lib}/libcuda.so.${version}`]: "",
    });
    expect(found.gpus).toEqual([{ bus: "0000:01:00.0", model: "NVIDIA GeForce RTX 4090" }]);
    expect(found.driver).toEqual({ version, library: inside(name, `${lib}/libcuda.so.1`) });
  });

  it("the driver of Windows under WSL has its library alone", () => {
    const found = machine("wsl", { "usr/lib/wsl/lib/libcuda.so.1": "" });
    expect(found.driver).toEqual({ library: inside("wsl", "usr/lib/wsl/lib/libcuda.so.1") });
  });

  it("toolkits are told once, with their version, and their libraries", () => {
    const found = machine("toolkits", {
      "usr/local/cuda-12.4/version.json": '{\n  "cuda" : {\n    "name" : "CUDA SDK",\n    "version" : "12.4.1"\n  }\n}',
      "usr/local/cuda-12.4/lib64/libcublasLt.so.12": "",
      "usr/local/cuda-11.8/version.txt": "CUDA Version 11.8.89\n",
      "usr/local/cuda-11.8/lib64/libcublasLt.so.11": "",
      "usr/local/cuda-11.8/lib64/libnvrtc.so.11.2": "",
      "usr/local/cuda-10.2/README": "",
      "usr/local/cuda": "->cuda-12.4",
    });
    expect(found.toolkits.map(({ folder, version }) => [folder.split("/").at(-1), version])).toEqual([
      ["cuda-12.4", "12.4.1"],
      ["cuda-10.2", "10.2"],
      ["cuda-11.8", "11.8.89"],
    ]);
    expect(found.libraries).toEqual([
      { name: "cuBLASLt", file: expect.stringMatching(/cuda-12\.4\/lib64\/libcublasLt\.so\.12$/) },
    ]);
  });

  it("pip's packages and PyTorch are found in environments of every kind", () => {
    const venv = "home/me/work/.venv/lib/python3.11/site-packages";
    const system = "usr/lib/python3/dist-packages";
    const found = machine("pip", {
      [`${venv}/nvidia_cublas_cu12-12.4.5.8.dist-info/METADATA`]: "",
      [`${venv}/nvidia_cudnn_cu12-9.1.0.70.dist-info/METADATA`]: "",
      [`${venv}/nvidia_nccl_cu12-2.21.5.dist-info/METADATA`]: "",
      [`${venv}/nvidia/cublas/lib/libcublasLt.so.12`]: "",
      [`${venv}/nvidia/cudnn/lib/libcudnn.so.9`]: "",
      [`${venv}/torch-2.5.1+cu124.dist-info/METADATA`]: "",
      [`${venv}/torch/lib/libnvrtc.so.12`]: "",
      [`${venv}/torchvision-0.20.1.dist-info/METADATA`]: "",
      [`${system}/torch-1.13.1.dist-info/METADATA`]: "",
      [`${lib}/libcudnn.so.8`]: "",
    });
    expect(found.packages.map(({ name, version }) => `${name} ${version}`)).toEqual([
      "nvidia-cublas-cu12 12.4.5.8",
      "nvidia-cudnn-cu12 9.1.0.70",
      "torch 2.5.1+cu124",
      "torch 1.13.1",
    ]);
    expect(found.libraries).toEqual([
      { name: "cuBLASLt", file: inside("pip", `${venv}/nvidia/cublas/lib/libcublasLt.so.12`) },
      { name: "cuDNN", file: inside("pip", `${venv}/nvidia/cudnn/lib/libcudnn.so.9`) },
      { name: "NVRTC", file: inside("pip", `${venv}/torch/lib/libnvrtc.so.12`) },
    ]);
  });

  it("on Windows lies in its own places", () => {
    const name = "windows";
    const environment = { SystemRoot: inside(name, "Windows"), ProgramFiles: inside(name, "Program Files") };
    const kit = "Program Files/NVIDIA GPU Computing Toolkit/CUDA/v12.4";
    const files = { "Windows/System32/nvcuda.dll": "", [`${kit}/bin/cublasLt64_12.dll`]: "" };
    const found = machine(name, files, { platform: "win32", environment });
    expect(found).toMatchObject({
      driver: { library: inside(name, "Windows/System32/nvcuda.dll") },
      toolkits: [{ folder: expect.stringMatching(/v12\.4$/), version: "12.4" }],
      libraries: [{ name: "cuBLASLt", file: expect.stringMatching(/cublasLt64_12\.dll$/) }],
    });
  });
});
