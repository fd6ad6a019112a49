// NVIDIA GPUs, drivers and libraries as their files tell, in file trees as each kind of machine has them.
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { chooseLibraries, driverLibrary, installCommand, searchPath } from "../../src/device/cuda/libraries.ts";
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
      { name: "cuBLASLt", file: expect.stringMatching(/cuda-12\.4\/lib64\/libcublasLt\.so\.12$/), major: 12 },
      { name: "cuBLASLt", file: expect.stringMatching(/cuda-11\.8\/lib64\/libcublasLt\.so\.11$/), major: 11 },
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
      "nvidia-nccl-cu12 2.21.5",
      "torch 2.5.1+cu124",
      "torch 1.13.1",
    ]);
    expect(found.libraries).toEqual([
      { name: "cuBLASLt", file: inside("pip", `${venv}/nvidia/cublas/lib/libcublasLt.so.12`), major: 12 },
      { name: "NVRTC", file: inside("pip", `${venv}/torch/lib/libnvrtc.so.12`), major: 12 },
      { name: "cuDNN", file: inside("pip", `${venv}/nvidia/cudnn/lib/libcudnn.so.9`), major: 9 },
      { name: "cuDNN", file: inside("pip", `${lib}/libcudnn.so.8`), major: 8 },
    ]);
  });

  it("the packages of CUDA 13 lie in one folder, and pyenv's and a user's own count", () => {
    const pyenv = "home/me/.pyenv/versions/3.12.1/lib/python3.12/site-packages";
    const user = "home/me/.local/lib/python3.11/site-packages";
    const found = machine("thirteen", {
      [`${pyenv}/nvidia/cu13/lib/libcublasLt.so.13`]: "",
      [`${pyenv}/nvidia_cublas-13.1.0.3.dist-info/METADATA`]: "",
      [`${user}/nvidia/cuda_nvrtc/lib/libnvrtc.so.12`]: "",
      [`${user}/nvidia/nccl/lib/libnccl.so.2`]: "",
    });
    expect(found.packages.map(({ name, version }) => `${name} ${version}`)).toEqual(["nvidia-cublas 13.1.0.3"]);
    expect(found.libraries).toEqual([
      { name: "cuBLASLt", file: inside("thirteen", `${pyenv}/nvidia/cu13/lib/libcublasLt.so.13`), major: 13 },
      { name: "NVRTC", file: inside("thirteen", `${user}/nvidia/cuda_nvrtc/lib/libnvrtc.so.12`), major: 12 },
      { name: "NCCL", file: inside("thirteen", `${user}/nvidia/nccl/lib/libnccl.so.2`), major: 2 },
    ]);
  });

  it("on Windows lies in its own places", () => {
    const name = "windows";
    const environment = {
      SystemRoot: inside(name, "Windows"),
      ProgramFiles: inside(name, "Program Files"),
      LOCALAPPDATA: inside(name, "home/me/AppData/Local"),
    };
    const kits = "Program Files/NVIDIA GPU Computing Toolkit/CUDA";
    const python = "home/me/AppData/Local/Programs/Python/Python312/Lib/site-packages";
    const found = machine(
      name,
      {
        "Windows/System32/nvcuda.dll": "",
        [`${kits}/v12.4/bin/cublasLt64_12.dll`]: "",
        [`${kits}/v12.4/bin/nvrtc64_120_0.dll`]: "",
        [`${kits}/v12.4/bin/nvrtc-builtins64_124.dll`]: "",
        [`${kits}/v13.0/bin/x64/cublasLt64_13.dll`]: "",
        [`${kits}/v11.8/bin/nvrtc64_112_0.dll`]: "",
        [`${python}/nvidia/cuda_nvrtc/bin/nvrtc64_120_0.dll`]: "",
        [`${python}/nvidia/cu13/bin/x86_64/nvrtc64_130_0.dll`]: "",
        [`${python}/torch/lib/cudnn64_9.dll`]: "",
        "home/me/work/python_embeded/Lib/site-packages/torch/lib/cublasLt64_12.dll": "",
      },
      { platform: "win32", environment },
    );
    expect(found).toMatchObject({
      driver: { library: inside(name, "Windows/System32/nvcuda.dll") },
      toolkits: [{ version: "11.8" }, { version: "12.4" }, { version: "13.0" }],
    });
    const short = (file: string) =>
      file
        .slice(path(name).length + 1)
        .split("/")
        .slice(-4)
        .join("/");
    expect(found.libraries.map(({ name, file, major }) => [name, major, short(file)])).toEqual([
      ["cuBLASLt", 13, "v13.0/bin/x64/cublasLt64_13.dll"],
      ["cuBLASLt", 12, "CUDA/v12.4/bin/cublasLt64_12.dll"],
      ["cuBLASLt", 12, "site-packages/torch/lib/cublasLt64_12.dll"],
      ["NVRTC", 13, "cu13/bin/x86_64/nvrtc64_130_0.dll"],
      ["NVRTC", 12, "CUDA/v12.4/bin/nvrtc64_120_0.dll"],
      ["NVRTC", 12, "nvidia/cuda_nvrtc/bin/nvrtc64_120_0.dll"],
      ["NVRTC", 11, "CUDA/v11.8/bin/nvrtc64_112_0.dll"],
      ["cuDNN", 9, "site-packages/torch/lib/cudnn64_9.dll"],
    ]);
  });

  it("on macOS there is none", () => {
    const found = machine("mac", { "usr/lib/libSystem.B.dylib": "" }, { platform: "darwin" });
    expect(found).toEqual({ gpus: [], toolkits: [], packages: [], libraries: [] });
  });
});

describe("the libraries that are opened", () => {
  const libraries: NvidiaFindings["libraries"] = [
    { name: "cuBLASLt", file: "/cu13/libcublasLt.so.13", major: 13 },
    { name: "cuBLASLt", file: "/cu12/libcublasLt.so.12", major: 12 },
    { name: "NVRTC", file: "/cu11/libnvrtc.so.11", major: 11 },
  ];
  const found: NvidiaFindings = { gpus: [], toolkits: [], packages: [], libraries };

  it("are the newest that the driver serves, and those that the environment names before all", () => {
    expect(chooseLibraries(found, 13000, {})).toEqual({ cublasLt: "/cu13/libcublasLt.so.13" });
    expect(chooseLibraries(found, 12080, {})).toEqual({ cublasLt: "/cu12/libcublasLt.so.12" });
    expect(chooseLibraries(found, 11080, {})).toEqual({});
    expect(chooseLibraries(found, 12080, { KINORA_CUBLASLT: "/own.so", KINORA_NVRTC: "/n.so" })).toEqual({
      cublasLt: "/own.so",
      nvrtc: "/n.so",
    });
  });

  it("the driver is a file that was found, one that is named, or the loader's to find", () => {
    expect(driverLibrary(found, "linux", {})).toBe("libcuda.so.1");
    expect(driverLibrary(found, "win32", {})).toBe("nvcuda.dll");
    expect(driverLibrary({ ...found, driver: { library: "/d/libcuda.so.1" } }, "linux", {})).toBe("/d/libcuda.so.1");
    expect(driverLibrary(found, "linux", { KINORA_CUDA_DRIVER: "/fake.so" })).toBe("/fake.so");
  });

  it("are installed by packages whose names changed with CUDA 13", () => {
    expect(installCommand(12040, ["cublas", "cuda-nvrtc"])).toBe(
      "pip install nvidia-cublas-cu12 nvidia-cuda-nvrtc-cu12",
    );
    expect(installCommand(13010, ["cuda-nvrtc"])).toBe('pip install "nvidia-cuda-nvrtc>=13,<14"');
  });

  it("find what they load themselves beside them, on Windows through PATH", () => {
    expect(searchPath("C:\\a\\nvrtc64_120_0.dll", "win32", "C:\\x")).toBe("C:\\a;C:\\x");
    expect(searchPath("C:\\a\\nvrtc64_120_0.dll", "win32", "C:\\x;C:\\a")).toBeUndefined();
    expect(searchPath("nvcuda.dll", "win32", "C:\\x")).toBeUndefined();
    expect(searchPath("/a/libnvrtc.so.12", "linux", "/x")).toBeUndefined();
  });
});
