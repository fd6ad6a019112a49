// `kinora doctor`: prints what this machine has. Always exit code 0.
import { KinoraError } from "../../base/errors.ts";
import { formatBytes } from "../../base/units.ts";
import type { ResultOf } from "../../jobs/table.ts";
import { command } from "../command.ts";
import { perform } from "../follow.ts";

type Report = ResultOf<"doctor">;

function nvidiaLines({ gpus, driver, toolkits, packages, libraries }: Report["nvidia"]): string[] {
  if (gpus.length === 0 && !driver && toolkits.length === 0 && packages.length === 0) return ["none found"];
  const models = gpus.map(({ model, bus }) => model ?? `a GPU at ${bus}`);
  const counted = [...new Set(models)].map((name) => {
    const count = models.filter((other) => other === name).length;
    return count > 1 ? `${count}× ${name}` : name;
  });
  return [
    counted.join(", ") || "no GPU found",
    driver
      ? `driver ${driver.version ?? ""} ${driver.library ?? "(its libcuda was not found)"}`.replace("  ", " ")
      : "no driver found",
    ...toolkits.map((toolkit) => `CUDA toolkit ${toolkit.version ?? "(no version)"} in ${toolkit.folder}`),
    ...packages.map((entry) => `${entry.name} ${entry.version} in ${entry.folder}`),
    ...(driver?.library?.includes("/wsl/") ? ["WSL: this is the driver of Windows; do not install one in Linux"] : []),
    ...[...new Set(libraries.map(({ name }) => name))].map(
      (name) => `${name}: ${libraries.find((one) => one.name === name)!.file}`,
    ),
  ];
}

/** How the cuda device stands, and what it would open. */
function cudaLines({ state, driver, cards, cublasLt, nvrtc, shipped, selfTest }: Report["cuda"]): string[] {
  const lines = [state];
  if (!driver) return lines;
  lines.push(`driver for CUDA ${driver.release}, ${driver.library}`);
  for (const [index, { name, capability, memory }] of cards.entries())
    lines.push(`cuda:${index} ${name}, compute capability ${capability / 10}, ${formatBytes(memory)}`);
  lines.push(`products: ${cublasLt ?? "cuBLASLt was not found"}`);
  lines.push(`kernels: ${nvrtc ? `compiled by ${nvrtc}` : shipped ? "as shipped" : "NVRTC was not found"}`);
  if (!selfTest) return lines;
  if ("failed" in selfTest)
    return [...lines, `self-test: ${selfTest.failed}`, ...(selfTest.hint ? [selfTest.hint] : [])];
  const [products, attention] = [selfTest.productFlops, selfTest.attentionFlops].map((rate) =>
    (rate / 1e12).toPrecision(3),
  );
  const [up, down] = [selfTest.uploadBytes, selfTest.downloadBytes].map((rate) => (rate / 1e9).toPrecision(3));
  return [
    ...lines,
    `self-test passed: products ${products} TFLOP/s, attention ${attention} TFLOP/s, to the card ${up} GB/s, back ${down} GB/s`,
  ];
}

/** The devices that can be asked for. */
function deviceLines({ devices: rows, device: { capacity, name: chosen, products } }: Report): string[] {
  return rows
    .filter(({ automatic }) => automatic)
    .map((row) => {
      const memory = `${formatBytes(capacity.free)} of ${formatBytes(capacity.total)} free`;
      const more = row.name === chosen ? `; products in ${products.join(" and ")}, ${memory}` : "";
      return `${row.name}, ${row.help}: ${row.usable ? `ready (${row.what})${more}` : row.why}`;
    });
}

function describe(report: Report): string {
  const { kinora, machine, oneDnn, ffmpeg, nvidia, device, models, folders, advice } = report;
  const { processor, memory } = machine;
  const instructions = processor.instructions?.join(" ");
  const usable = processor.usable < processor.cores ? `, ${processor.usable} of them usable` : "";
  const sections: [name: string, lines: string[]][] = [
    ["Kinora", [`${kinora.version} in ${kinora.folder}`]],
    ["Node.js", [`${machine.node}, ${machine.platform} ${machine.architecture}`]],
    ["system", [machine.system]],
    ["processor", [`${processor.model}, ${processor.cores} cores${usable}`, ...(instructions ? [instructions] : [])]],
    ["memory", [`${formatBytes(memory.total)}, ${formatBytes(memory.available)} available`]],
    ["oneDNN", ["missing" in oneDnn ? oneDnn.missing : `${oneDnn.version}, ${oneDnn.file}`]],
    ["FFmpeg", [`${ffmpeg.version} of node-av${ffmpeg.h264Encoder ? ", writes H.264" : ""}`]],
    ["NVIDIA", nvidiaLines(nvidia)],
    ["cuda", cudaLines(report.cuda)],
    ["device", [`auto takes ${device.name}: ${device.why}`, ...deviceLines(report)]],
    ["models", models.map(({ name, missing }) => `${name}: ${missing.length === 0 ? "ready" : "not in this copy"}`)],
    [
      "disk",
      folders.map(
        ({ name, path, free }) => `${free === undefined ? "?" : formatBytes(free)} free for the ${name}, ${path}`,
      ),
    ],
    [
      "to install",
      advice.length === 0
        ? ["nothing"]
        : advice.flatMap((one) => [`${one.what}: ${one.why}`, ...(one.command ? [`  ${one.command}`] : [])]),
    ],
  ];
  return sections
    .flatMap(([name, lines]) => lines.map((line, i) => `${(i === 0 ? name : "").padEnd(11)} ${line}`))
    .join("\n");
}

export const doctorCommand = command({
  name: "doctor",
  usage: "",
  options: {},
  details: `
Checks Node, processor, memory and disks, oneDNN, FFmpeg, NVIDIA GPUs with their driver and libraries, and the models that
ship with Kinora. If the cuda device can use a GPU, it is tested and measured for about 5 seconds. Changes nothing.
KINORA_ONEDNN, KINORA_CUDA_DRIVER, KINORA_CUBLASLT and KINORA_NVRTC name other libraries, KINORA_CACHE another cache folder.`,
  async run(_values, positionals, out) {
    if (positionals.length > 0) {
      throw new KinoraError("cli.bad-arguments", `doctor takes no argument ${JSON.stringify(positionals[0])}`, {
        hint: "kinora doctor checks everything",
      });
    }
    const report = await perform(out, "doctor", {});
    out.answer(report, () => describe(report));
    return 0;
  },
});
