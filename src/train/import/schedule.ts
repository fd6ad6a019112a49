// musubi's and kohya's flags of a learning rate schedule as [schedule] says them.

type Flags = Readonly<Record<string, unknown>>;

/** `["decay_type='linear'", "rex_alpha=0.2"]`: Python literals by their names. */
export function pythonArguments(list: unknown): Record<string, unknown> {
  const items = typeof list === "string" ? list.split(/\s+/) : Array.isArray(list) ? list.map(String) : [];
  return Object.fromEntries(
    items.flatMap((item) => {
      const at = item.indexOf("=");
      return at < 0 ? [] : [[item.slice(0, at).trim(), pythonValue(item.slice(at + 1).trim())]];
    }),
  );
}

/** A literal: a number, a truth value, a string, a tuple or list; what is none of these stays as text. */
export function pythonValue(text: string): unknown {
  if (/^(?:True|true)$/.test(text)) return true;
  if (/^(?:False|false)$/.test(text)) return false;
  if (/^(?:None|null)$/.test(text)) return null;
  const inner = /^[([](.*)[)\]]$/.exec(text)?.[1];
  if (inner !== undefined) {
    return inner
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== "")
      .map(pythonValue);
  }
  if (/^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(text)) return Number(text);
  return /^(['"])(.*)\1$/.exec(text)?.[2] ?? text;
}

/** A share is written with % or below 1. */
const stepsOrShare = (value: unknown): number =>
  typeof value === "string" && value.trim().endsWith("%") ? Number.parseFloat(value) / 100 : Number(value ?? 0);

/** The keys of [schedule]; defaults that upstream has and ours has not are written out. */
export function scheduleFrom(flags: Flags): Record<string, unknown> & { kind: string } {
  const name = String(flags.lr_scheduler ?? "constant");
  const more = pythonArguments(flags.lr_scheduler_args);
  const ratio = flags.lr_scheduler_min_lr_ratio ?? more.min_lr_ratio ?? more.min_lr_rate;
  const least = ratio === undefined ? {} : { min_lr_ratio: Number(ratio) };
  const warmup = stepsOrShare(flags.lr_warmup_steps);
  // musubi's constant takes no warm-up at all.
  const rise = warmup === 0 || name === "constant" ? {} : { warmup };
  const cycles = more.num_cycles === undefined ? {} : { num_cycles: Number(more.num_cycles) };
  const row = (kind: string, own: Record<string, unknown> = {}) => ({ kind, ...rise, ...own });
  switch (name) {
    case "constant_with_warmup":
      return row("constant");
    case "cosine_with_restarts":
      return row(name, { cycles: Number(flags.lr_scheduler_num_cycles ?? 1) });
    case "polynomial":
      return row(name, { power: Number(flags.lr_scheduler_power ?? 1) });
    case "inverse_sqrt":
      return row(name, flags.lr_scheduler_timescale == null ? {} : { timescale: Number(flags.lr_scheduler_timescale) });
    case "cosine_with_min_lr":
      return row(name, { ...least, ...cycles });
    case "warmup_stable_decay": {
      const { warmup_type, decay_type } = more;
      const decay = stepsOrShare(flags.lr_decay_steps);
      return row(name, {
        decay,
        ...least,
        ...cycles,
        ...(warmup_type ? { warmup_type } : {}),
        ...(decay_type ? { decay_type } : {}),
      });
    }
    case "rex": {
      const { rex_alpha, rex_beta } = more;
      return row(name, { ...least, ...(rex_alpha ? { rex_alpha } : {}), ...(rex_beta ? { rex_beta } : {}) });
    }
    default:
      return row(name);
  }
}
