// What files tell of NVIDIA GPUs and the libraries that the cuda device calls. Loads nothing and starts no program.
import { type Dirent, readdirSync, readFileSync, realpathSync } from "node:fs";
import { basename, join } from "node:path";

/** Where to look. */
export interface Place {
  platform: NodeJS.Platform;
  environment: Readonly<Record<string, string | undefined>>;
  home: string;
  /** The working folder, whose virtual environment counts. */
  folder: string;
  /** The root of the file system. */
  root: string;
}

export interface NvidiaFindings {
  /** `model` where the driver tells; without a driver only that there is one. */
  gpus: { bus: string; model?: string }[];
  /** libcuda or nvcuda.dll, and the version where it tells. */
  driver?: { version?: string; library?: string };
  /** CUDA toolkits. */
  toolkits: { folder: string; version?: string }[];
  /** pip's packages of NVIDIA's libraries, and PyTorch. */
  packages: { name: string; version: string; folder: string }[];
  /** Files of each library in toolkits, pip's packages, PyTorch and the system: the newest first, then the nearest. */
  libraries: { name: CudaLibrary; file: string; major: number }[];
}

/**
 * Their names, with the major version of CUDA (of cuDNN and NCCL, their own). The minor number in NVRTC's name on Windows
 * says which releases fit each other: nvrtc64_120_0.dll is that of CUDA 12.
 */
const libraryFiles = {
  cuBLASLt: /^(?:libcublasLt\.so\.(\d+)|cublasLt64_(\d+)\.dll)$/i,
  NVRTC: /^(?:libnvrtc\.so\.(\d+)|nvrtc64_(\d+)\d_\d+\.dll)$/i,
  cuDNN: /^(?:libcudnn\.so\.(\d+)|cudnn64_(\d+)\.dll)$/i,
  NCCL: /^libnccl\.so\.(\d+)$/,
} as const;

export type CudaLibrary = keyof typeof libraryFiles;

function list(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch {
    return [];
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** Folders in `folder` whose names match, in order. */
function matching(folder: string, name: RegExp): string[] {
  const found = list(folder).filter((entry) => name.test(entry.name));
  return found.map((entry) => join(folder, entry.name)).sort();
}

/** The driver describes each GPU; without one, the bus still knows NVIDIA's display adapters. */
function gpus({ root }: Place): NvidiaFindings["gpus"] {
  const described = list(join(root, "proc/driver/nvidia/gpus")).map(({ name }) => {
    const text = read(join(root, "proc/driver/nvidia/gpus", name, "information")) ?? "";
    const model = /^Model:\s*(.+)$/m.exec(text)?.[1]?.trim();
    return { bus: name, ...(model ? { model } : {}) };
  });
  if (described.length > 0) return described;
  const devices = join(root, "sys/bus/pci/devices");
  return list(devices).flatMap(({ name }) => {
    const vendor = read(join(devices, name, "vendor"))?.trim();
    const kind = read(join(devices, name, "class"))?.trim();
    // Class 03 is display controllers; the cards' sound devices have the same vendor.
    return vendor === "0x10de" && kind?.startsWith("0x03") ? [{ bus: name }] : [];
  });
}

function systemFolders({ root, platform, environment }: Place): string[] {
  if (platform === "win32") return [join(environment.SystemRoot ?? join(root, "Windows"), "System32")];
  const fixed = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "usr/local/nvidia/lib64",
    "usr/lib/wsl/lib",
    "run/opengl-driver/lib",
  ].map((folder) => join(root, folder));
  return [...(environment.LD_LIBRARY_PATH?.split(":").filter(Boolean) ?? []), ...fixed];
}

function driver(place: Place): NvidiaFindings["driver"] {
  // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar …", or "… Open Kernel Module for x86_64  570.…"
  const text = read(join(place.root, "proc/driver/nvidia/version"));
  const told = text && /^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s/m.exec(text)?.[1];
  const name = place.platform === "win32" ? /^nvcuda\.dll$/i : /^libcuda\.so\.1$/;
  const [library] = systemFolders(place).flatMap((folder) => matching(folder, name));
  if (library === undefined && told === undefined) return undefined;
  // The file behind libcuda.so.1 carries the driver's version in its name.
  const version = told ?? (library && /\.so\.(\d+\.[\d.]+)$/.exec(real(library))?.[1]);
  return { ...(version ? { version } : {}), ...(library ? { library } : {}) };
}

function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function toolkits({ root, platform, environment }: Place): NvidiaFindings["toolkits"] {
  const installed =
    platform === "win32"
      ? matching(
          join(environment.ProgramFiles ?? join(root, "Program Files"), "NVIDIA GPU Computing Toolkit/CUDA"),
          /^v/,
        )
      : [...matching(join(root, "usr/local"), /^cuda(?:-\d+(?:\.\d+)?)?$/), ...matching(join(root, "opt"), /^cuda$/)];
  const named = [environment.CUDA_HOME, environment.CUDA_PATH].filter((folder) => folder !== undefined);
  // /usr/local/cuda is mostly a link to one of its neighbours.
  const folders = [...new Set([...named, ...installed].map(real))].filter((folder) => list(folder).length > 0);
  return folders.map((folder) => {
    const version = toolkitVersion(folder);
    return { folder, ...(version ? { version } : {}) };
  });
}

function toolkitVersion(folder: string): string | undefined {
  const json = read(join(folder, "version.json"));
  if (json !== undefined) {
    const told = /"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"([\d.]+)"/.exec(json)?.[1];
    if (told) return told;
  }
  const text = read(join(folder, "version.txt"));
  return (text && /CUDA Version ([\d.]+)/.exec(text)?.[1]) || /(\d+\.\d+)$/.exec(basename(folder))?.[1];
}

/** Prefixes of Python environments, the nearest first. */
function pythonPrefixes({ root, platform, environment, home, folder }: Place): string[] {
  const near = [environment.VIRTUAL_ENV, environment.CONDA_PREFIX, join(folder, ".venv"), join(folder, "venv")];
  const conda = ["miniconda3", "anaconda3", "miniforge3"].map((name) => join(home, name));
  const system =
    platform === "win32"
      ? [
          // ComfyUI's portable form brings a Python of its own.
          join(folder, "python_embeded"),
          ...matching(join(environment.LOCALAPPDATA ?? join(home, "AppData/Local"), "Programs/Python"), /^Python3\d+$/),
          ...matching(join(environment.APPDATA ?? join(home, "AppData/Roaming"), "Python"), /^Python3\d+$/),
        ]
      : [
          ...matching(join(environment.PYENV_ROOT ?? join(home, ".pyenv"), "versions"), /^3\./).reverse(),
          join(home, ".local"),
          ...["usr/local", "usr", "opt/conda"].map((name) => join(root, name)),
        ];
  return [...near.filter((prefix) => prefix !== undefined), ...conda, ...system];
}

/** Where Python's packages lie, of every environment that is at hand. */
function sitePackages(place: Place): string[] {
  const found = pythonPrefixes(place).flatMap((prefix) =>
    place.platform === "win32"
      ? [join(prefix, "Lib", "site-packages"), join(prefix, "site-packages")]
      : matching(join(prefix, "lib"), /^python3(?:\.\d+)?$/).flatMap((python) =>
          ["site-packages", "dist-packages"].map((name) => join(python, name)),
        ),
  );
  return [...new Set(found.filter((packages) => list(packages).length > 0).map(real))];
}

/** `nvidia_cublas_cu12-12.4.5.8.dist-info` and `torch-2.5.1+cu124.dist-info`. */
const distribution = /^(nvidia_(?:cublas|cudnn|cuda_nvrtc|nccl)(?:_cu\d+)?|torch)-([^-]+)\.dist-info$/;

function packagesIn(folder: string): NvidiaFindings["packages"] {
  return list(folder).flatMap(({ name }) => {
    const [, found, version] = distribution.exec(name) ?? [];
    return found !== undefined && version !== undefined ? [{ name: found.replaceAll("_", "-"), version, folder }] : [];
  });
}

/** The folders of a Python environment that hold libraries: NVIDIA's own packages, then what PyTorch carries. */
function libraryFolders(packages: string): string[] {
  const nvidia = list(join(packages, "nvidia")).flatMap(({ name }) =>
    ["lib", "bin", "bin/x86_64"].map((place) => join(packages, "nvidia", name, place)),
  );
  return [...nvidia, join(packages, "torch", "lib")];
}

function libraries(folders: readonly string[]): NvidiaFindings["libraries"] {
  const files = folders.flatMap((folder) => list(folder).map(({ name }) => ({ name, path: join(folder, name) })));
  return (Object.keys(libraryFiles) as CudaLibrary[]).flatMap((name) => {
    const found = files.flatMap(({ name: fileName, path }) => {
      const match = libraryFiles[name].exec(fileName);
      return match ? [{ name, file: path, major: Number(match[1] ?? match[2]) }] : [];
    });
    return found.sort((a, b) => b.major - a.major);
  });
}

export function findNvidia(place: Place): NvidiaFindings {
  const kits = toolkits(place);
  const packages = sitePackages(place);
  const found = driver(place);
  const folders = [
    ...kits.flatMap(({ folder }) => ["lib64", "lib", "bin", "bin/x64"].map((name) => join(folder, name))),
    ...packages.flatMap(libraryFolders),
    ...(place.environment.CONDA_PREFIX
      ? ["lib", "Library/bin"].map((name) => join(place.environment.CONDA_PREFIX!, name))
      : []),
    ...systemFolders(place),
  ];
  return {
    gpus: gpus(place),
    ...(found ? { driver: found } : {}),
    toolkits: kits,
    packages: packages.flatMap(packagesIn),
    libraries: libraries([...new Set(folders)]),
  };
}
