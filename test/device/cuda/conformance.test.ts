// Every kernel of the cuda device, on the emulator.
import { conformance } from "../conformance/suite.ts";
import { emulatedDescriptor } from "./emulated.ts";

await conformance(emulatedDescriptor, {
  "f64 operands of products, norms, activations, arithmetic and sums": "the cuda device computes in float32",
  "cast f64 → f64 rounds to nearest even, as the host does": "values pass through float32",
});
