// Where kernels' machine code comes from: kept, compiled anew where the disk changed it, or shipped and current.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, test } from "vitest";
import { buildCubins, staleCubins } from "../../../scripts/cuda/cubins.ts";
import { findNvrtc } from "../../../scripts/cuda/tools.ts";
import { kernelImages, nearestArchitecture, readManifest, shippedFolder } from "../../../src/device/cuda/images.ts";
import { Nvrtc } from "../../../src/ffi/nvrtc.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

const path = temporaryFolder();

it("a card runs the code of its own architecture, or of an older one of its generation", () => {
  const made = [80, 86, 89, 90, 100, 120];
  expect(nearestArchitecture(86, made)).toBe("sm_86");
  expect(nearestArchitecture(87, made)).toBe("sm_86");
  expect(nearestArchitecture(90, made)).toBe("sm_90a");
  expect(nearestArchitecture(103, made)).toBe("sm_100");
  expect(nearestArchitecture(121, made)).toBe("sm_120");
  expect(nearestArchitecture(110, made)).toBeUndefined();
});

test("compiled kernels that lie in this copy are those of its sources", () => {
  if (readManifest()) expect(staleCubins(shippedFolder).filter((line) => line.includes("missing"))).toEqual([]);
  expect(staleCubins(path("none"))).toEqual(["there are no compiled kernels"]);
});

const compiler = findNvrtc();
if ("missing" in compiler) test.skip(`kernels are compiled and kept: ${compiler.missing}`);
else {
  describe("with NVRTC", () => {
    const nvrtc = compiler.path;
    const file = "movement";
    const images = (options: Partial<Parameters<typeof kernelImages>[0]>) =>
      kernelImages({ capability: 87, cacheFolder: path("cache"), shippedIn: path("nowhere"), ...options });

    it("compiles once, keeps what it made, and makes it again where the disk changed it", () => {
      const compiled: string[] = [];
      const ask = () => images({ nvrtc, compiling: (name) => compiled.push(name) })(file);
      const first = ask();
      expect(Buffer.from(first.subarray(1, 4)).toString()).toBe("ELF");
      expect(Buffer.compare(ask(), first)).toBe(0);
      expect(compiled).toEqual([file]);
      const [kept, ...others] = readdirSync(path("cache/cuda"));
      expect([kept, others]).toEqual([expect.stringMatching(/^movement\.sm_8\d\.[0-9a-f]{32}\.cubin$/), []]);
      const at = join(path("cache/cuda"), kept!);
      const bytes = readFileSync(at);
      bytes[bytes.length - 7]! ^= 1;
      writeFileSync(at, bytes);
      expect(Buffer.compare(ask(), first)).toBe(0);
      writeFileSync(at, bytes.subarray(0, 100));
      expect(Buffer.compare(ask(), first)).toBe(0);
      expect(compiled).toEqual([file, file, file]);
    });

    it("takes what was shipped where NVRTC is missing or cannot be loaded, unless it is stale or damaged", () => {
      const folder = path("shipped");
      buildCubins(Nvrtc.open(nvrtc), folder, { files: [file], capabilities: [86] });
      expect(staleCubins(folder).some((line) => line.startsWith(file))).toBe(true);
      for (const broken of [undefined, path("no-nvrtc.so")]) {
        const image = images({ nvrtc: broken, shippedIn: folder })(file);
        expect(Buffer.from(image.subarray(1, 4)).toString()).toBe("ELF");
        expect(() => images({ nvrtc: broken, shippedIn: folder })("norms")).toThrowError(
          expect.objectContaining({ code: "cuda.no-kernels", hint: expect.stringContaining("kinora doctor") }),
        );
      }
      expect(() => images({ shippedIn: folder, capability: 90 })(file)).toThrowError(/sm_90a/);
      const manifest = join(folder, "manifest.json");
      const text = readFileSync(manifest, "utf8");
      writeFileSync(manifest, text.replace(/"source": "../, '"source": "zz'));
      expect(() => images({ shippedIn: folder })(file)).toThrowError(/no machine code/);
      writeFileSync(manifest, text.replace(/"sha256": "../, '"sha256": "zz'));
      expect(() => images({ shippedIn: folder })(file)).toThrowError(/no machine code/);
    });
  });
}
