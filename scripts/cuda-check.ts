// npm run cuda:check [-- FILE…]: compiles CUDA kernels for every architecture and prints registers, spills and shared
// memory.
import { Nvrtc } from "../src/ffi/nvrtc.ts";
import { staticCheck, table } from "./cuda/static-check.ts";
import { findDisassembler, findNvrtc } from "./cuda/tools.ts";

const files = process.argv.slice(2);
const compiler = findNvrtc();
const disassembler = findDisassembler();
if ("missing" in compiler) {
  console.log(`skipped: ${compiler.missing}`);
} else {
  const nvrtc = Nvrtc.open(compiler.path);
  const { reports, faults } = staticCheck(
    nvrtc,
    "path" in disassembler ? disassembler.path : undefined,
    files.length > 0 ? files : undefined,
  );
  console.log(`NVRTC ${nvrtc.version}\n${table(reports)}`);
  if ("missing" in disassembler) console.log(`instructions were not looked at: ${disassembler.missing}`);
  for (const fault of faults) console.log(`fault: ${fault}`);
  console.log(`${reports.length} passed, ${faults.length} failed`);
  process.exitCode = faults.length > 0 ? 1 : 0;
}
