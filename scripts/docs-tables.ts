// npx tsx scripts/docs-tables.ts: writes the tables of docs/training.md that derive from the code's own tables
// (optimizers, schedules, time samplings, losses). A test holds the page to them.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { z } from "zod";
import type { ChoiceRow } from "../src/train/choices.ts";
import { choosing } from "../src/train/config/choices.ts";

const page = fileURLToPath(new URL("../docs/training.md", import.meta.url));

/** A default as TOML has it; that of the model where the row has none of its own. */
function presetOf(schema: z.ZodType, words = "the model's own"): string {
  const preset = schema.safeParse(undefined);
  return preset.success && preset.data !== undefined
    ? `\`${JSON.stringify(preset.data).replaceAll(",", ", ")}\``
    : words;
}

function settingsOf({ settings, presets }: ChoiceRow): string {
  const rows = Object.entries(settings.shape) as [string, z.ZodType][];
  return (
    rows
      .map(([name, schema]) => `\`${name}\` (${presetOf(schema, presets?.[name])}): ${schema.description}`)
      .join("; ") || "–"
  );
}

/** The Markdown table of a choice. */
export function choiceTable({ table, key, rows, fallback }: (typeof choosing)[keyof typeof choosing]): string {
  const lines = Object.entries(rows).map(([kind, row]: [string, ChoiceRow]) => {
    const mark = kind === fallback ? " (default)" : "";
    return `| \`${kind}\`${mark} | ${row.help} | ${settingsOf(row)} |`;
  });
  return [`| \`${table}.${key}\` | what it is | its own settings |`, "|---|---|---|", ...lines].join("\n");
}

const marked = (name: string) => new RegExp(`(<!-- table ${name} -->\n)[\\s\\S]*?(\n<!-- end -->)`);

/** The page with its tables as the code has them. */
export function withTables(text: string): string {
  return Object.entries(choosing).reduce((page, [name, choice]) => {
    if (!marked(name).test(page)) throw new Error(`docs/training.md has no place for the table of ${name}`);
    return page.replace(marked(name), (_all, begin, end) => begin + choiceTable(choice) + end);
  }, text);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(page, withTables(readFileSync(page, "utf8")));
