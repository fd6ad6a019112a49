// Brings a fresh checkout to the point where it runs: npm packages, then oneDNN where the system has a package of it.
// Plain JavaScript because it runs before anything is installed.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

function installPackages() {
  const marker = `${root}node_modules/.package-lock.json`;
  if (existsSync(marker) && statSync(marker).mtimeMs >= statSync(`${root}package-lock.json`).mtimeMs - 1) return;
  if (existsSync(marker) && sameVersions(marker)) return;
  console.error("kinora: installing npm packages (npm ci)…");
  const npm = process.platform === "win32" ? "npm.cmd" : "npm";
  execFileSync(npm, ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], {
    cwd: root,
    stdio: ["ignore", 2, 2],
    shell: process.platform === "win32",
  });
}

// A clone's lock file is newer than a kept node_modules; what counts is whether the versions agree.
function sameVersions(marker) {
  const installed = JSON.parse(readFileSync(marker, "utf8")).packages;
  const wanted = JSON.parse(readFileSync(`${root}package-lock.json`, "utf8")).packages;
  return Object.entries(wanted).every(
    ([path, entry]) => path === "" || entry.optional || installed[path]?.version === entry.version,
  );
}

function installOneDnn() {
  if (process.platform !== "linux" || process.env.KINORA_ONEDNN) return;
  const libraries = spawnSync("ldconfig", ["-p"], {
    encoding: "utf8",
    env: { ...process.env, PATH: `${process.env.PATH}:/sbin:/usr/sbin` },
  });
  if (/libdnnl\.so\.[23]/.test(libraries.stdout ?? "")) return;
  if (spawnSync("apt-get", ["--version"]).status !== 0) {
    console.error("kinora: oneDNN (libdnnl) was not found; going on with the slow reference device.");
    return;
  }
  const names = ["libdnnl2", "libdnnl3", "libdnnl3.6"];
  const command = `apt-get update && apt-get install -y --no-install-recommends ${names[0]}`;
  if (process.getuid?.() !== 0) {
    console.error(
      `kinora: for the fast CPU device run: sudo sh -c '${command}'\nkinora: going on with the slow reference device.`,
    );
    return;
  }
  console.error("kinora: installing oneDNN by apt…");
  spawnSync("apt-get", ["update"], { stdio: "ignore" });
  const installed = names.some(
    (name) =>
      spawnSync("apt-get", ["install", "-y", "--no-install-recommends", name], { stdio: "ignore" }).status === 0,
  );
  if (!installed)
    console.error(`kinora: apt could not install oneDNN (${command}); going on with the slow reference device.`);
}

export function setup() {
  installPackages();
  installOneDnn();
}

if (process.argv[1] && fileURLToPath(import.meta.url) === process.argv[1]) setup();
