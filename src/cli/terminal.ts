// The one place that prints. What people read is made harmless here, wherever it comes from; what machines read is one
// JSON value a line: the answer on stdout, every event and note on stderr, nothing else.

/** Where lines go: the terminal, or a list in a test. What comes here is harmless. */
export interface Output {
  /** What a command answers: stdout. */
  data(text: string): void;
  /** Talk beside it: stderr. */
  note(text: string): void;
  /** Replaces the current progress line on a terminal; throttled lines elsewhere. */
  progress(text: string): void;
  /** Aborts when nobody reads any more. */
  readonly closed?: AbortSignal;
}

/** Control characters but tab and newline, line separators, and what turns the direction of writing around. */
const harmful = /(?![\t\n])[\p{Cc}\u2028-\u202e\u2066-\u2069]/gu;

/**
 * Text that moves no cursor, changes no terminal and reads in the order it is written. Captions, names of files and
 * tensors, answers of servers and messages of libraries may hold anything.
 */
export function harmless(text: string): string {
  return text.replaceAll("\r\n", "\n").replace(harmful, "�").toWellFormed();
}

/** A name inside a line of ours, which a line break in it would break up. */
export function oneLine(text: string): string {
  return text.replace(/\s+/g, " ");
}

/** JSON on one line, in which a terminal finds nothing to obey either. */
export function jsonLine(value: unknown): string {
  return JSON.stringify(value).replace(
    harmful,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** What commands print with: each says what it knows once, for people and machines alike. */
export class Printer {
  /** Whether a machine reads (`--json`). */
  readonly json: boolean;
  readonly #out: Output;
  /** What a library says of its options, in the flags of the command that runs (command.ts). */
  inFlags: (text: string) => string = (text) => text;

  constructor(out: Output, json: boolean) {
    this.#out = out;
    this.json = json;
  }

  get closed(): AbortSignal | undefined {
    return this.#out.closed;
  }

  /** What the command answers, once: `value` for machines, `text` for people. */
  answer(value: unknown, text: () => string): void {
    const answer = this.json ? jsonLine(value) : harmless(text());
    if (answer !== "") this.#out.data(answer);
  }

  /** A part of the answer as it comes, for people; a machine gets it all at once. */
  print(text: string): void {
    if (!this.json) this.#out.data(harmless(text));
  }

  /** An event of a job, for machines; people read what `note` and `progress` say of it. */
  event(event: { type: string }): void {
    if (this.json) this.#out.note(jsonLine(event));
  }

  /** Something worth knowing beside the answer. */
  note(text: string): void {
    this.#out.note(this.json ? jsonLine({ type: "note", text }) : harmless(text));
  }

  /** Talk for people alone: a machine knows it from the events. */
  say(text: string): void {
    if (!this.json) this.#out.note(harmless(text));
  }

  /** How far the work is, for people alone. */
  progress(text: string): void {
    if (!this.json) this.#out.progress(harmless(text).replaceAll("\n", " "));
  }
}

/** How a closed pipe says so: on POSIX systems, on Windows, and of a stream that heard it before. */
const closedPipe: ReadonlySet<string | undefined> = new Set(["EPIPE", "EOF", "ERR_STREAM_DESTROYED"]);

/** Milliseconds between two progress lines where there is no terminal. */
const PROGRESS_MS = 2000;

/** This process's stdout and stderr. A reader that goes away ends the talk, quietly. */
export function terminalOutput(): Output {
  const { stdout, stderr } = process;
  const closed = new AbortController();
  for (const stream of [stdout, stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (!closedPipe.has(error.code)) throw error;
      closed.abort();
    });
  }
  let open = false;
  let last = 0;
  const line = (stream: NodeJS.WriteStream, text: string) => {
    if (open) stderr.write("\n");
    open = false;
    if (stream.writable) stream.write(text.endsWith("\n") ? text : `${text}\n`);
  };
  return {
    closed: closed.signal,
    data: (text) => line(stdout, text),
    note: (text) => line(stderr, text),
    progress(text) {
      if (stderr.isTTY) {
        stderr.write(`\r\x1b[2K${text.slice(0, (stderr.columns ?? 100) - 1).toWellFormed()}`);
        open = true;
      } else if (Date.now() - last > PROGRESS_MS) {
        last = Date.now();
        line(stderr, text);
      }
    },
  };
}
