// Where oneDNN is on this machine, the entry points both major versions share, and the one check of their statuses.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import koffi, { type LibraryHandle } from "koffi";
import { KinoraError } from "../base/errors.ts";
import { libraryFolders, libraryNames } from "../base/platform.ts";
import { openMpThreads, type Threads } from "./onednn-threads.ts";

export type Status = number;
/** Addresses are plain numbers here: user-space addresses fit in 53 bits, and numbers are the cheapest argument. */
export type Handle = number;

const statusNames = [
  "success",
  "out of memory",
  "invalid arguments",
  "unimplemented",
  "no further implementation",
  "runtime error",
  "not required",
];

export const CPU_ENGINE = 1;
export const UNIMPLEMENTED: Status = 3;

/** Throws `onednn.failed` unless `status` is success. Every status of the library goes through here. */
export function check(status: Status, call: string): void {
  if (status === 0) return;
  throw new KinoraError("onednn.failed", `oneDNN refused ${call}`, {
    actual: `${statusNames[status] ?? "status"} (${status})`,
  });
}

/** The command that installs oneDNN by the package manager that is here. */
export function installCommand(): string {
  const has = (program: string) => existsSync(join("/usr/bin", program));
  if (process.platform === "darwin") return "brew install onednn";
  if (process.platform === "linux") {
    // The package carries the version in its name: libdnnl2, libdnnl3, libdnnl3.6.
    if (has("apt-get")) return "sudo apt-get install '^libdnnl[0-9.]+$'";
    if (has("dnf")) return "sudo dnf install onednn";
    if (has("pacman")) return "sudo pacman -S onednn";
  }
  return "conda install -c conda-forge onednn";
}

const names = libraryNames(process.platform, "dnnl", ["3", "2", "2.6"]);

function installHint(): string {
  return `run \`${installCommand()}\`, or set KINORA_ONEDNN to the path of ${names.at(-1)}`;
}

/** File names in the order of preference, and the folders the system's loader does not search by itself. */
function candidates(): string[] {
  const prefixes = [process.env.CONDA_PREFIX, dirname(dirname(process.execPath)), "/opt/homebrew", "/usr/local"];
  const folders = prefixes.flatMap((prefix) => (prefix ? libraryFolders(process.platform, prefix) : []));
  return [...names, ...folders.flatMap((folder) => names.map((name) => join(folder, name)).filter(existsSync))];
}

/**
 * How long OpenMP's threads spin at a barrier before they sleep. By default libgomp spins for seconds' worth of cycles,
 * which is ruinous as soon as another process wants a core: small products took 40 times longer on two busy cores.
 * Read by the OpenMP runtimes when they are loaded; what the user has set stays.
 */
function calmOpenMp(): void {
  process.env.GOMP_SPINCOUNT ??= "2000";
  process.env.KMP_BLOCKTIME ??= "1";
}

/** Only what is alike in oneDNN 2.x and 3.x. Addresses pass as uintptr_t. */
function bind(library: LibraryHandle) {
  const func = (definition: string) => library.func(definition);
  return {
    engineCreate: func("int dnnl_engine_create(uintptr_t, int, size_t)") as (
      out: Handle,
      kind: number,
      i: number,
    ) => Status,
    engineDestroy: func("int dnnl_engine_destroy(uintptr_t)") as (engine: Handle) => Status,
    streamCreate: func("int dnnl_stream_create(uintptr_t, uintptr_t, unsigned int)") as (
      out: Handle,
      engine: Handle,
      flags: number,
    ) => Status,
    streamDestroy: func("int dnnl_stream_destroy(uintptr_t)") as (stream: Handle) => Status,
    streamWait: func("int dnnl_stream_wait(uintptr_t)") as (stream: Handle) => Status,
    memoryCreate: func("int dnnl_memory_create(uintptr_t, uintptr_t, uintptr_t, uintptr_t)") as (
      out: Handle,
      descriptor: Handle,
      engine: Handle,
      data: Handle,
    ) => Status,
    memorySetData: func("int dnnl_memory_set_data_handle(uintptr_t, uintptr_t)") as (
      memory: Handle,
      data: Handle,
    ) => Status,
    memoryDestroy: func("int dnnl_memory_destroy(uintptr_t)") as (memory: Handle) => Status,
    descriptorBytes: func("size_t dnnl_memory_desc_get_size(uintptr_t)") as (descriptor: Handle) => number,
    descriptorsEqual: func("int dnnl_memory_desc_equal(uintptr_t, uintptr_t)") as (a: Handle, b: Handle) => number,
    queryDescriptor: func("uintptr_t dnnl_primitive_desc_query_md(uintptr_t, int, int)") as (
      primitiveDescriptor: Handle,
      what: number,
      index: number,
    ) => Handle,
    queryPrimitive: func("int dnnl_primitive_desc_query(uintptr_t, int, int, uintptr_t)") as (
      primitiveDescriptor: Handle,
      what: number,
      index: number,
      result: Handle,
    ) => Status,
    primitiveDescriptorDestroy: func("int dnnl_primitive_desc_destroy(uintptr_t)") as (descriptor: Handle) => Status,
    primitiveCreate: func("int dnnl_primitive_create(uintptr_t, uintptr_t)") as (
      out: Handle,
      descriptor: Handle,
    ) => Status,
    primitiveExecute: func("int dnnl_primitive_execute(uintptr_t, uintptr_t, int, uintptr_t)") as (
      primitive: Handle,
      stream: Handle,
      count: number,
      args: Handle,
    ) => Status,
    primitiveDestroy: func("int dnnl_primitive_destroy(uintptr_t)") as (primitive: Handle) => Status,
    attributesCreate: func("int dnnl_primitive_attr_create(uintptr_t)") as (out: Handle) => Status,
    attributesDestroy: func("int dnnl_primitive_attr_destroy(uintptr_t)") as (attributes: Handle) => Status,
    setScratchpadMode: func("int dnnl_primitive_attr_set_scratchpad_mode(uintptr_t, int)") as (
      attributes: Handle,
      mode: number,
    ) => Status,
    setPostOps: func("int dnnl_primitive_attr_set_post_ops(uintptr_t, uintptr_t)") as (
      attributes: Handle,
      postOps: Handle,
    ) => Status,
    postOpsCreate: func("int dnnl_post_ops_create(uintptr_t)") as (out: Handle) => Status,
    postOpsDestroy: func("int dnnl_post_ops_destroy(uintptr_t)") as (postOps: Handle) => Status,
    postOpsBinary: func("int dnnl_post_ops_append_binary(uintptr_t, int, uintptr_t)") as (
      postOps: Handle,
      algorithm: number,
      descriptor: Handle,
    ) => Status,
    reorder: func(
      "int dnnl_reorder_primitive_desc_create(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t)",
    ) as (
      out: Handle,
      source: Handle,
      sourceEngine: Handle,
      target: Handle,
      targetEngine: Handle,
      attributes: Handle,
    ) => Status,
  };
}

export type CommonCalls = ReturnType<typeof bind>;

export interface Library {
  readonly handle: LibraryHandle;
  readonly calls: CommonCalls;
  readonly version: { readonly major: number; readonly minor: number; readonly patch: number };
  /** As it was asked for: a path, or a name that the system's loader looked up. */
  readonly name: string;
  readonly threads: Threads | undefined;
}

/** The file that was loaded for a library; its name where the system does not tell. */
export function fileOf({ name }: Library): string {
  if (process.platform !== "linux" || name.includes("/")) return name;
  const maps = readFileSync("/proc/self/maps", "utf8");
  return /^.* (\/.*libdnnl[^/\n]*)$/m.exec(maps)?.[1] ?? name;
}

/** Opens one file and looks whether it serves: its version, and an engine for CPUs (builds for SYCL may have none). */
function tryLibrary(path: string): Library {
  const handle = koffi.load(path);
  const versionAddress: Handle = handle.func("uintptr_t dnnl_version()")();
  const [major, minor, patch] = new Int32Array(koffi.view(BigInt(versionAddress), 12)) as unknown as [
    number,
    number,
    number,
  ];
  if (!((major === 2 && minor >= 6) || major === 3)) {
    throw new Error(`oneDNN ${major}.${minor}.${patch}, not 2.6, 2.7 or 3.x`);
  }
  const engines: number = handle.func("size_t dnnl_engine_get_count(int)")(CPU_ENGINE);
  if (Number(engines) === 0) throw new Error("oneDNN built without a CPU engine");
  return { handle, calls: bind(handle), version: { major, minor, patch }, name: path, threads: openMpThreads(handle) };
}

let loaded: Library | undefined;

/** Loads oneDNN once per process. Throws `device.onednn-missing`. */
export function loadLibrary(): Library {
  if (loaded) return loaded;
  calmOpenMp();
  const override = process.env.KINORA_ONEDNN;
  const paths = override ? [override] : candidates();
  const reasons: string[] = [];
  for (const path of paths) {
    try {
      loaded = tryLibrary(path);
      return loaded;
    } catch (error) {
      reasons.push(`${path}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  throw new KinoraError("device.onednn-missing", "the cpu device needs oneDNN, and none could be loaded", {
    expected: override ? `a library at ${override}` : `one of ${paths.slice(0, 4).join(", ")}`,
    actual: reasons.slice(0, 4).join("; "),
    hint: installHint(),
  });
}
