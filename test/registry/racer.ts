// One of several processes that publish and promote over one store at once; see race.test.ts.
// argv: store, person, LoRA file, rounds. Says each event that it was told is kept, a line each.
import { parseAddress } from "../../src/registry/address.ts";
import { openRegistry } from "../../src/registry/open.ts";

const [store, who, file, rounds] = process.argv.slice(2) as [string, string, string, string];
const registry = await openRegistry(store, { ...process.env, KINORA_USER: who });
const address = parseAddress("styles/acme/race");
for (let round = 0; round < Number(rounds); round++) {
  const { version } = await registry.publish(address, [{ source: file, path: "race.safetensors", role: "lora" }], {
    description: `${who} ${round}`,
  });
  process.stdout.write(`published ${version}\n`);
  await registry.note(address, `${who} ${round}`, version);
  process.stdout.write(`noted ${who} ${round}\n`);
  await registry.promote(address, version, `${who} ${round}`, true);
  process.stdout.write(`promoted ${version}\n`);
}
