// The operating system's memory through koffi: aligned blocks outside the JavaScript heap, and read-only file maps.
import { closeSync, fstatSync, openSync } from "node:fs";
import koffi from "koffi";
import { KinoraError } from "../base/errors.ts";

/** The address of host memory: a number, since those of user space fit in 53 bits and foreign calls take it quickest. */
export type Address = number & { readonly brand: "address" };

const windows = process.platform === "win32";
const libc = koffi.load(windows ? "kernel32.dll" : process.platform === "darwin" ? "libSystem.B.dylib" : "libc.so.6");

const PAGE = 4096;

interface Memory {
  reserve(bytes: number): Address | undefined;
  release(address: Address, bytes: number): void;
  map(path: string, bytes: number): Address;
  unmap(address: Address, bytes: number): void;
  /** Has these pages of a file map read from the disk, without waiting for them. */
  readAhead(address: Address, bytes: number): void;
  /** Tells the system that these pages of a file map will not be read again soon. */
  discard(address: Address, bytes: number): void;
}

function posix(): Memory {
  const PROT_READ = 1;
  const PROT_WRITE = 2;
  const MAP_SHARED = 1;
  const MAP_PRIVATE = 2;
  const MAP_ANONYMOUS = process.platform === "darwin" ? 0x1000 : 0x20;
  const MADV_WILLNEED = 3;
  const MADV_DONTNEED = 4;
  const MADV_HUGEPAGE = 14;
  const mmap = libc.func("uintptr_t mmap(uintptr_t, size_t, int, int, int, int64_t)");
  const munmap = libc.func("int munmap(uintptr_t, size_t)");
  const madvise = libc.func("int madvise(uintptr_t, size_t, int)");
  const failed = Number(2n ** 64n - 1n);
  return {
    reserve(bytes) {
      const address = Number(mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
      if (address === failed) return undefined;
      if (process.platform === "linux" && bytes >= 4 << 20) madvise(address, bytes, MADV_HUGEPAGE);
      return address as Address;
    },
    release: (address, bytes) => void munmap(address, bytes),
    map(path, bytes) {
      const file = openSync(path, "r");
      try {
        const address = Number(mmap(0, bytes, PROT_READ, MAP_SHARED, file, 0));
        if (address === failed)
          throw new KinoraError("io.map-failed", `cannot map ${path} into memory`, { actual: `${bytes} bytes` });
        return address as Address;
      } finally {
        closeSync(file);
      }
    },
    unmap: (address, bytes) => void munmap(address, bytes),
    readAhead(address, bytes) {
      const start = Math.floor(address / PAGE) * PAGE;
      madvise(start, address + bytes - start, MADV_WILLNEED);
    },
    discard(address, bytes) {
      const start = Math.ceil(address / PAGE) * PAGE;
      const end = Math.floor((address + bytes) / PAGE) * PAGE;
      if (end > start) madvise(start, end - start, MADV_DONTNEED);
    },
  };
}

function win32(): Memory {
  const MEM_COMMIT_RESERVE = 0x3000;
  const MEM_RELEASE = 0x8000;
  const PAGE_READWRITE = 4;
  const PAGE_READONLY = 2;
  const FILE_MAP_READ = 4;
  const GENERIC_READ = 0x80000000;
  const FILE_SHARE_READ = 1;
  const OPEN_EXISTING = 3;
  const invalid = Number(2n ** 64n - 1n);
  const virtualAlloc = libc.func("uintptr_t __stdcall VirtualAlloc(uintptr_t, size_t, uint32_t, uint32_t)");
  const virtualFree = libc.func("int __stdcall VirtualFree(uintptr_t, size_t, uint32_t)");
  const createFile = libc.func(
    "uintptr_t __stdcall CreateFileW(str16, uint32_t, uint32_t, uintptr_t, uint32_t, uint32_t, uintptr_t)",
  );
  const createMapping = libc.func(
    "uintptr_t __stdcall CreateFileMappingW(uintptr_t, uintptr_t, uint32_t, uint32_t, uint32_t, uintptr_t)",
  );
  const mapView = libc.func("uintptr_t __stdcall MapViewOfFile(uintptr_t, uint32_t, uint32_t, uint32_t, size_t)");
  const unmapView = libc.func("int __stdcall UnmapViewOfFile(uintptr_t)");
  const closeHandle = libc.func("int __stdcall CloseHandle(uintptr_t)");
  return {
    reserve(bytes) {
      const address = Number(virtualAlloc(0, bytes, MEM_COMMIT_RESERVE, PAGE_READWRITE));
      return address === 0 ? undefined : (address as Address);
    },
    release: (address) => void virtualFree(address, 0, MEM_RELEASE),
    map(path, bytes) {
      const file = Number(createFile(path, GENERIC_READ, FILE_SHARE_READ, 0, OPEN_EXISTING, 0, 0));
      const mapping = file === invalid ? 0 : Number(createMapping(file, 0, PAGE_READONLY, 0, 0, 0));
      const address = mapping === 0 ? 0 : Number(mapView(mapping, FILE_MAP_READ, 0, 0, bytes));
      // The view keeps the mapping and the file alive; their handles are not needed any more.
      if (mapping !== 0) closeHandle(mapping);
      if (file !== invalid) closeHandle(file);
      if (address === 0)
        throw new KinoraError("io.map-failed", `cannot map ${path} into memory`, { actual: `${bytes} bytes` });
      return address as Address;
    },
    unmap: (address) => void unmapView(address),
    // Windows reads ahead by itself where a view is read in order.
    readAhead() {},
    // Windows trims clean pages of a view by itself under pressure.
    discard() {},
  };
}

const memory: Memory = windows ? win32() : posix();

/** A view of host memory. It must not be used after the memory is released. */
export function viewBytes(address: Address, bytes: number): Uint8Array {
  return bytes === 0 ? new Uint8Array(0) : new Uint8Array(koffi.view(BigInt(address), bytes));
}

/** Page-aligned, zeroed memory. Throws `memory.exhausted`. */
export function reserveMemory(bytes: number): Address {
  const address = memory.reserve(bytes);
  if (address === undefined) {
    throw new KinoraError("memory.exhausted", "the system could not provide more memory", {
      actual: `a request for ${bytes} bytes`,
      hint: "use a smaller size, fewer frames, or a narrower dtype",
    });
  }
  return address;
}

export function releaseMemory(address: Address, bytes: number): void {
  memory.release(address, bytes);
}

/** A read-only map of a whole file: its pages are read when touched and are the system's to drop. */
export class FileMap {
  readonly path: string;
  readonly address: Address;
  readonly size: number;
  #open = true;

  constructor(path: string) {
    this.path = path;
    const file = openSync(path, "r");
    try {
      this.size = fstatSync(file).size;
    } finally {
      closeSync(file);
    }
    if (this.size === 0) throw new KinoraError("io.empty-file", `${path} is empty`);
    this.address = memory.map(path, this.size);
  }

  /** Bytes `[start, end)` of the file, without a copy; valid until the map is closed. */
  bytes(start = 0, end: number = this.size): Uint8Array {
    if (!this.#open) throw new KinoraError("io.map-closed", `${this.path} was closed`);
    if (start < 0 || end < start || end > this.size) {
      throw new KinoraError("io.out-of-range", `${this.path} has no bytes ${start} to ${end}`, {
        actual: `${this.size} bytes`,
      });
    }
    return viewBytes((this.address + start) as Address, end - start);
  }

  /** Has the pages of `[start, end)` on their way from the disk. */
  readAhead(start: number, end: number): void {
    memory.readAhead((this.address + start) as Address, end - start);
  }

  /** Lets the system drop the pages of `[start, end)`; they are read again when touched. */
  discard(start: number, end: number): void {
    memory.discard((this.address + start) as Address, end - start);
  }

  [Symbol.dispose](): void {
    if (this.#open) memory.unmap(this.address, this.size);
    this.#open = false;
  }
}
