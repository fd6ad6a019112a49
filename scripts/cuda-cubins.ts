// npm run cuda:cubins [-- --check | --where-possible]: compiles the kernels that the package ships (kernels/cuda/cubins).
// --check only says whether they are current; --where-possible goes on without NVRTC, with a word.
import { parseArgs } from "node:util";
import { shippedFolder } from "../src/device/cuda/images.ts";
import { Nvrtc } from "../src/ffi/nvrtc.ts";
import { buildCubins, staleCubins } from "./cuda/cubins.ts";
import { findNvrtc } from "./cuda/tools.ts";

const { values } = parseArgs({ options: { check: { type: "boolean" }, "where-possible": { type: "boolean" } } });

function build(): number {
  if (staleCubins(shippedFolder).length === 0) {
    console.log("the compiled kernels are current");
    return 0;
  }
  const compiler = findNvrtc();
  if ("missing" in compiler) {
    console.error(`no compiled kernels for this package: ${compiler.missing}`);
    return values["where-possible"] ? 0 : 1;
  }
  const nvrtc = Nvrtc.open(compiler.path);
  const bytes = buildCubins(nvrtc, shippedFolder);
  console.log(`NVRTC ${nvrtc.version}: ${(bytes / 1e6).toFixed(2)} MB in ${shippedFolder}`);
  return 0;
}

function check(): number {
  const stale = staleCubins(shippedFolder);
  for (const line of stale) console.error(line);
  console.log(stale.length === 0 ? "the compiled kernels are current" : "run npm run cuda:cubins");
  return stale.length === 0 ? 0 : 1;
}

process.exitCode = values.check ? check() : build();
