// Which of the libraries on this machine the cuda device opens: what the environment names, else the newest that the driver
// serves. Looks at files alone; what is missing is told with the command that installs it.
import type { CudaLibrary, NvidiaFindings } from "../nvidia.ts";

export interface CudaLibraries {
  cublasLt?: string;
  nvrtc?: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The oldest release of CUDA whose driver and libraries are used. */
export const OLDEST_CUDA = 12;

/** Where the environment may name each library; the driver too. */
export const libraryVariables = {
  driver: "KINORA_CUDA_DRIVER",
  cublasLt: "KINORA_CUBLASLT",
  nvrtc: "KINORA_NVRTC",
} as const;

/** 12040 is CUDA 12.4. */
export const releaseOf = (version: number): string =>
  `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
const majorOf = (version: number): number => Math.floor(version / 1000);

/** The driver's library, as it can be loaded: a file, or the name that the system's loader looks up. */
export function driverLibrary({ driver }: NvidiaFindings, platform: NodeJS.Platform, environment: Environment): string {
  const named = environment[libraryVariables.driver];
  return named || driver?.library || (platform === "win32" ? "nvcuda.dll" : "libcuda.so.1");
}

/** `driverVersion`: as the driver tells it. A library of a newer release than its driver does not start. */
export function chooseLibraries(
  { libraries }: NvidiaFindings,
  driverVersion: number,
  environment: Environment,
): CudaLibraries {
  const newest = (wanted: CudaLibrary, variable: string): string | undefined => {
    const fits = ({ name, major }: { name: string; major: number }) =>
      name === wanted && major >= OLDEST_CUDA && major <= majorOf(driverVersion);
    return environment[variable] || libraries.find(fits)?.file;
  };
  const cublasLt = newest("cuBLASLt", libraryVariables.cublasLt);
  const nvrtc = newest("NVRTC", libraryVariables.nvrtc);
  return { ...(cublasLt ? { cublasLt } : {}), ...(nvrtc ? { nvrtc } : {}) };
}

/** The command that installs libraries that this driver serves. From CUDA 13 on, NVIDIA's packages bear no number. */
export function installCommand(driverVersion: number, packages: readonly ("cublas" | "cuda-nvrtc")[]): string {
  const major = Math.max(OLDEST_CUDA, majorOf(driverVersion));
  const names = packages.map((name) =>
    major < 13 ? `nvidia-${name}-cu${major}` : `"nvidia-${name}>=${major},<${major + 1}"`,
  );
  return `pip install ${names.join(" ")}`;
}

/**
 * Windows looks for the libraries that a library loads by itself (NVRTC's builtins, cuBLASLt's) in the folders of PATH.
 * Gives PATH with the library's folder, for Windows alone.
 */
export function searchPath(library: string, platform: NodeJS.Platform, path = ""): string | undefined {
  if (platform !== "win32") return undefined;
  const folder = library.replace(/[\\/][^\\/]*$/, "");
  return folder === library || path.split(";").includes(folder) ? undefined : `${folder};${path}`;
}
