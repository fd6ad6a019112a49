// The front door: what `import "kinora"` gives.
export { isKinoraError, KinoraError } from "./base/errors.ts";
export { kinoraVersion } from "./base/version.ts";
