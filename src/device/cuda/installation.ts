// What it takes to open a card on this machine: the driver, the libraries, the kernels; and what of it is missing, with the
// command that installs it.
import { homedir } from "node:os";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { CudaDriver } from "../../ffi/cuda-driver.ts";
import { findNvidia, type NvidiaFindings } from "../nvidia.ts";
import { capabilityOf, usableCard } from "./cuda-device.ts";
import { readManifest } from "./images.ts";
import {
  type CudaLibraries,
  chooseLibraries,
  driverLibrary,
  installCommand,
  libraryVariables,
  releaseOf,
} from "./libraries.ts";

type Environment = Readonly<Record<string, string | undefined>>;
type Lacking = readonly ("cublas" | "cuda-nvrtc")[];

/** Said wherever the device is opened or described, until cards have shown it. */
export const cudaState = "emulated and statically checked; not yet run on a card";

/** A folder of compiled kernels, `FILE.sm_XX.cubin`, that goes before everything. */
export const IMAGES_VARIABLE = "KINORA_CUDA_IMAGES";

export function lookForNvidia(): NvidiaFindings {
  const place = { platform: process.platform, environment: process.env, home: homedir(), folder: process.cwd() };
  return findNvidia({ ...place, root: "/" });
}

/** What is needed beside a driver and a card, and the packages that bring what of it is missing. */
function neededLibraries(
  found: NvidiaFindings,
  driverVersion: number,
  environment: Environment,
): { libraries: CudaLibraries; lacks: Lacking } {
  const libraries = chooseLibraries(found, driverVersion, environment);
  const compiled = environment[IMAGES_VARIABLE] !== undefined || readManifest() !== undefined;
  return {
    libraries,
    lacks: [
      ...(libraries.cublasLt ? [] : (["cublas"] as const)),
      ...(libraries.nvrtc || compiled ? [] : (["cuda-nvrtc"] as const)),
    ],
  };
}

function lacking(driverVersion: number, lacks: Lacking): KinoraError {
  const names = lacks.map((name) => (name === "cublas" ? "cuBLAS" : "NVRTC")).join(" and ");
  const variables = lacks.map((name) => libraryVariables[name === "cublas" ? "cublasLt" : "nvrtc"]);
  return new KinoraError("cuda.no-libraries", `${names} ${lacks.length > 1 ? "were" : "was"} not found`, {
    expected:
      "in a CUDA toolkit, in a Python environment with PyTorch or NVIDIA's packages, or in the system's folders",
    hint: `${installCommand(driverVersion, lacks)}, or set ${variables.join(" and ")}`,
  });
}

export interface Ready {
  driver: CudaDriver;
  card: number;
  capability: number;
  libraries: CudaLibraries;
}

/** Everything that has to be there before a card is opened. Takes no memory on it. Throws `cuda.*`. */
export function makeReady(found: NvidiaFindings, index: number): Ready {
  const driver = CudaDriver.open(driverLibrary(found, process.platform, process.env));
  const { card, capability } = usableCard(driver, index);
  const { lacks, libraries } = neededLibraries(found, driver.version, process.env);
  if (lacks.length > 0) throw lacking(driver.version, lacks);
  return { driver, card, capability, libraries };
}

/** Whether nothing on this machine says that it has an NVIDIA GPU. */
export function isWithoutGpu({ gpus, driver }: NvidiaFindings, error: unknown): boolean {
  const failed = isKinoraError(error) && error.code === "cuda.no-driver";
  return failed && gpus.length === 0 && !driver && !process.env[libraryVariables.driver];
}

export interface CudaInspection {
  /** The release of CUDA that the driver serves. */
  driver?: { library: string; release: string };
  cards: { name: string /** e.g. 86 for compute capability 8.6. */; capability: number; memory: number }[];
  cublasLt?: string;
  nvrtc?: string;
  /** Compiled kernels came with the package. */
  shipped: boolean;
  /** A command that installs what is missing. */
  command?: string;
}

/** Everything that was found, as far as the driver lets itself be asked. Takes no memory on a card. */
export function inspectCuda(found = lookForNvidia()): CudaInspection {
  const nothing = { cards: [], shipped: readManifest() !== undefined };
  try {
    const driver = CudaDriver.open(driverLibrary(found, process.platform, process.env));
    const { libraries, lacks } = neededLibraries(found, driver.version, process.env);
    const cards = Array.from({ length: driver.deviceCount() }, (_, index) => {
      const card = driver.device(index);
      return {
        name: driver.name(card),
        capability: capabilityOf(driver, card),
        memory: driver.totalMemory(card),
      };
    });
    return {
      ...nothing,
      driver: { library: driver.path, release: releaseOf(driver.version) },
      cards,
      ...libraries,
      ...(lacks.length > 0 ? { command: installCommand(driver.version, lacks) } : {}),
    };
  } catch (error) {
    if (!isKinoraError(error)) throw error;
    return nothing;
  }
}
