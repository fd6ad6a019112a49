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
    ...libraries.map(({ name, file }) => `${name}: ${file}`),
    "this version has no cuda device yet: none of this is used",
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
Checks Node, processor, memory and disks, oneDNN, FFmpeg, NVIDIA GPUs with their driver and libraries (by their files
alone), and the models that ship with Kinora. Changes nothing. KINORA_ONEDNN names another oneDNN library, KINORA_CACHE
another cache folder.`,
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
