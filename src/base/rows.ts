// Tables of a parsed TOML or JSON file, before anything is known of their values.

export type Row = Record<string, unknown>;

export const isRow = (value: unknown): value is Row =>
  typeof value === "object" && value !== null && !Array.isArray(value);
