// Every kernel of the cuda device, on the emulator.

import { cudaSkips } from "../conformance/skips.ts";
import { conformance } from "../conformance/suite.ts";
import { emulatedDescriptor } from "./emulated.ts";

await conformance(emulatedDescriptor, cudaSkips);
