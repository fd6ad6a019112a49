// The kernels' machine code: compiled for every architecture without a GPU, no register spilled, launch bounds kept.
import { expect, test } from "vitest";
import { launchBounds, readLog, staticCheck } from "../../../scripts/cuda/static-check.ts";
import { findDisassembler, findNvrtc } from "../../../scripts/cuda/tools.ts";
import { Nvrtc } from "../../../src/ffi/nvrtc.ts";

test("launch bounds leave each thread its share of 65536 registers, in eights, at most 255", () => {
  const source = "KERNEL(128, 2) one(int a) {}\nKERNEL(384, 1) two(\n  int a) {}\nKERNEL(256, 3) three(int a) {}\n";
  expect([...launchBounds(source)]).toEqual([
    ["one", 255],
    ["two", 168],
    ["three", 80],
  ]);
});

test("registers, spills and shared memory are read from the compiler's log", () => {
  const log = `ptxas info    : Compiling entry function 'a' for 'sm_80'
ptxas info    : Function properties for a
ptxas         .     40 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 46 registers, used 1 barriers, 128 bytes smem, 392 bytes cmem[0]
ptxas info    : Compiling entry function 'b' for 'sm_80'
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers`;
  expect([...readLog(log)]).toEqual([
    ["a", { registers: 46, spills: 24, shared: 128 }],
    ["b", { registers: 255, spills: 0, shared: 0 }],
  ]);
});

const [compiler, disassembler] = [findNvrtc(), findDisassembler()];
if ("missing" in compiler) test.skip(`kernels compile for every architecture: ${compiler.missing}`);
else if ("missing" in disassembler) test.skip(`kernels' instructions: ${disassembler.missing}`);
else {
  test("every kernel compiles for every architecture, spills nothing and keeps its launch bound", {
    timeout: 600_000,
  }, () => {
    const { reports, faults } = staticCheck(Nvrtc.open(compiler.path), disassembler.path);
    expect(faults).toEqual([]);
    expect(reports.length).toBeGreaterThan(200);
  });
}
