// Golden kind `gguf`: a file's tensors, widened, in their true shapes.
import { dirname, join } from "node:path";
import { widenBlocks } from "../../../src/base/block-format.ts";
import { toFloat32 } from "../../../src/base/float-formats.ts";
import { elementCount, sameShape } from "../../../src/base/shape.ts";
import { GgufFile } from "../../../src/io/gguf.ts";
import type { Fixture } from "../fixture.ts";

export async function gguf(fixture: Fixture): Promise<void> {
  using file = GgufFile.open(join(dirname(fixture.path), fixture.config.file));
  const expected = Object.keys(fixture.config.types);
  for (const name of expected) {
    const { shape, blocks, dtype } = file.info(name);
    let values: Float32Array = new Float32Array(elementCount(shape));
    if (blocks) widenBlocks(blocks, file.bytes(name), values);
    else values = toFloat32(file.bytes(name), dtype);
    // A wrong shape is wrong altogether.
    const right =
      sameShape(shape, fixture.shape(`outputs.${name}`)) &&
      (blocks?.name ?? dtype.toUpperCase()) === fixture.config.types[name];
    fixture.compare(name, right ? values : new Float32Array(0));
  }
}
