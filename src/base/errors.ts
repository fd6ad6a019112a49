// The one error class of Kinora. A code that stays, what was expected, what came, and a hint.
// Not a place for messages: they live where the check is.

export interface ErrorDetail {
  /** What would have been right. */
  expected?: string;
  /** What came instead. */
  actual?: string;
  /** What the person can do about it. */
  hint?: string;
  cause?: unknown;
}

/** Every failure Kinora foresees. `code` is stable (`area.what`, e.g. `safetensors.truncated`). */
export class KinoraError extends Error {
  readonly code: string;
  readonly expected: string | undefined;
  readonly actual: string | undefined;
  readonly hint: string | undefined;

  constructor(code: string, message: string, detail: ErrorDetail = {}) {
    const parts = [message];
    if (detail.expected !== undefined) parts.push(`expected ${detail.expected}`);
    if (detail.actual !== undefined) parts.push(`got ${detail.actual}`);
    super(parts.join("; "), detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = "KinoraError";
    this.code = code;
    this.expected = detail.expected;
    this.actual = detail.actual;
    this.hint = detail.hint;
  }
}

export function isKinoraError(error: unknown, code?: string): error is KinoraError {
  return error instanceof KinoraError && (code === undefined || error.code === code);
}
