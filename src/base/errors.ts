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

/** Names from a file may be as long as the file: what a person reads is cut here. */
const READABLE = 2000;

function readable(text: string): string;
function readable(text: string | undefined): string | undefined;
function readable(text: string | undefined): string | undefined {
  return text !== undefined && text.length > READABLE ? `${text.slice(0, READABLE)}…` : text;
}

/** Every failure Kinora foresees. `code` is stable (`area.what`, e.g. `safetensors.truncated`). */
export class KinoraError extends Error {
  readonly code: string;
  readonly expected: string | undefined;
  readonly actual: string | undefined;
  readonly hint: string | undefined;

  constructor(code: string, message: string, detail: ErrorDetail = {}) {
    const [expected, actual] = [readable(detail.expected), readable(detail.actual)];
    const parts = [readable(message)];
    if (expected !== undefined) parts.push(`expected ${expected}`);
    if (actual !== undefined) parts.push(`got ${actual}`);
    super(parts.join("; "), detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = "KinoraError";
    this.code = code;
    this.expected = expected;
    this.actual = actual;
    this.hint = readable(detail.hint);
  }

  /** An error whose message was composed elsewhere, in another process say. */
  static from({ code, message, expected, actual, hint }: ComposedError): KinoraError {
    return Object.assign(new KinoraError(code, message), { expected, actual, hint });
  }
}

/** A KinoraError's parts; `message` already tells what was expected and what came. */
export interface ComposedError {
  code: string;
  message: string;
  expected?: string | undefined;
  actual?: string | undefined;
  hint?: string | undefined;
}

/** Whether a caught value is a {@link KinoraError}, and, where a code is given, that one. */
export function isKinoraError(error: unknown, code?: string): error is KinoraError {
  return error instanceof KinoraError && (code === undefined || error.code === code);
}
