// npm run docs:api: writes docs/api, a page for each door of the package, from its types and comments. `--check` writes
// nothing and fails where a page is out of date, or a public name has no comment. Reads through TypeScript's own API.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { API, type Project, SymbolFlags } from "typescript/unstable/sync";
import { type ApiSymbol, declarationOf, fileOf, type Kind, kindOf } from "./api-docs/declarations.ts";
import { type NamedTypes, TypePrinter } from "./api-docs/types.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = join(root, "docs/api");

interface Door {
  /** As it is imported. */
  name: string;
  /** In src/. */
  file: string;
  page: string;
}

/** Those that package.json opens to the sources. */
function doorsOf(): Door[] {
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    exports: Record<string, string | { "@kinora/source": string }>;
  };
  return Object.entries(exports).flatMap(([path, target]) => {
    if (typeof target === "string") return [];
    const name = path.replace(/^\./, "kinora");
    return [{ name, file: target["@kinora/source"].slice(2), page: `${name.replace("/", "-")}.md` }];
  });
}

const titles: Record<Kind, string> = {
  function: "Functions",
  class: "Classes",
  value: "Values",
  type: "Types",
  namespace: "Namespaces",
};

interface Entry {
  name: string;
  symbol: ApiSymbol;
  kind: Kind;
}

function entriesOf(project: Project, module: ApiSymbol): Entry[] {
  const { checker } = project;
  return checker
    .getExportsOfModule(module)
    .map((exported) => {
      const alias = (exported.flags & SymbolFlags.Alias) !== 0;
      const symbol = alias ? checker.getAliasedSymbol(exported) : exported;
      return { name: exported.name, symbol, kind: kindOf(symbol, project) };
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

class Pages {
  readonly #project: Project;
  readonly #doors: readonly Door[];
  readonly #named: NamedTypes = new Map();
  readonly #printer: TypePrinter;
  /** Public names without a comment. */
  readonly bare: string[] = [];

  constructor(project: Project, doors: readonly Door[]) {
    this.#project = project;
    this.#doors = doors;
    this.#printer = new TypePrinter(project, this.#named);
    for (const { file } of doors) {
      for (const { name, symbol, kind } of this.#entries(file)) {
        if (kind !== "type") continue;
        const text = this.#printer.expand(project.checker.getDeclaredTypeOfSymbol(symbol), name);
        if (!this.#named.has(text)) this.#named.set(text, name);
      }
    }
  }

  #entries(file: string): Entry[] {
    const source = this.#project.program.getSourceFile(join(root, file))!;
    return entriesOf(this.#project, this.#project.checker.getSymbolAtLocation(source)!);
  }

  page({ name, file, page }: Door): string {
    const entries = this.#entries(file);
    const head = readFileSync(join(root, file), "utf8").match(/^(?:\/\/.*\n)+/)?.[0] ?? "";
    const words = head.replace(/^\/\/ ?/gm, "").trim();
    const parts = [`# ${name}`, words];
    for (const [kind, title] of Object.entries(titles)) {
      const of = entries.filter((entry) => entry.kind === kind);
      if (of.length === 0) continue;
      const list = of.map((entry) => `[${entry.name}](#${entry.name.toLowerCase()})`).join(", ");
      parts.push(`## ${title}`, list, ...of.map((entry) => this.#section(entry, page)));
    }
    return `${parts.join("\n\n")}\n`;
  }

  #section({ name, symbol, kind }: Entry, page: string, level = "###"): string {
    const { checker } = this.#project;
    const file = relative(root, fileOf(symbol, this.#project)).replaceAll("\\", "/");
    const parts = [`${level} ${name}`];
    const comment = checker.getDocumentationCommentOfSymbol(symbol).trim();
    if (kind === "namespace") {
      const inner = entriesOf(this.#project, symbol);
      const words = readFileSync(join(root, file), "utf8").match(/^\/\/ (.*)\n/)?.[1];
      const list = inner.map((entry) => `[${entry.name}](#${entry.name.toLowerCase()})`).join(", ");
      return [...parts, words, list, ...inner.map((entry) => this.#section(entry, page, "####"))].join("\n\n");
    }
    const declaration = declarationOf(symbol, name, this.#project, this.#printer);
    parts.push(comment || this.#standIn(name, symbol, file));
    parts.push(`\`\`\`ts\n${declaration}\n\`\`\``);
    parts.push(...this.#tags(symbol), ...this.#contract(declaration, page));
    parts.push(`[${file}](../../${file})`);
    return parts.join("\n\n");
  }

  /** What a schema's type is, its schema says. */
  #standIn(name: string, symbol: ApiSymbol, file: string): string {
    const text = symbol.declarations[0]!.resolve(this.#project)!.getText();
    const schema = /z\.(?:infer|input|output)<typeof (\w+)>/.exec(text)?.[1];
    if (schema !== undefined) return `What \`${schema}\` describes.`;
    this.bare.push(`${name} (${file})`);
    return "";
  }

  #tags(symbol: ApiSymbol): string[] {
    const tags = this.#project.checker.getJsDocTagsOfSymbol(symbol);
    const textOf = (tag: (typeof tags)[number]): string => String(tag.text ?? "").trim();
    return tags.flatMap((tag) => {
      if (tag.name === "param") return [`- \`${textOf(tag).replace(/^(\S+)\s*(-\s*)?/, "$1`: ")}`];
      if (tag.name === "throws") return [`Throws ${textOf(tag)}`];
      return tag.name === "example" ? [textOf(tag)] : [];
    });
  }

  /** Where the events and the result of a job are written out. */
  #contract(declaration: string, page: string): string[] {
    const job = /\bRun<"([\w-]+)">/.exec(declaration)?.[1];
    const door = this.#doors.find(({ name }) => name === "kinora/protocol");
    if (job === undefined || !door) return [];
    const contract = `${job.replace(/-(\w)/g, (_all, letter: string) => letter.toUpperCase())}Contract`;
    const path = door.page === page ? "" : door.page;
    return [`Its events and its result: [${contract}](${path}#${contract.toLowerCase()}).`];
  }
}

function indexOf(doors: readonly Door[]): string {
  const rows = doors.map(({ name, file, page }) => {
    const comment = /^(?:\/\/.*\n)+/.exec(readFileSync(join(root, file), "utf8").replaceAll("\r\n", "\n"))![0];
    const words = comment
      .replace(/^\/\/ ?/gm, "")
      .replaceAll("\n", " ")
      .replace(/^`[^`]*`: /, "");
    return `| [${name}](${page}) | ${/^.*?\.(?= )/.exec(words)![0]} |`;
  });
  const words = `Everything that the package exports, a page for each way in. Written by \`npm run docs:api\` from the comments
in the sources; change those. Programs to copy are in [examples/](../../examples/).`;
  return `# The API\n\n${words}\n\n| | |\n|---|---|\n${rows.join("\n")}\n`;
}

/** Every page by its name, and the public names without a comment. */
function apiPages(): { pages: ReadonlyMap<string, string>; bare: readonly string[] } {
  const api = new API({ cwd: root });
  try {
    const project = api.updateSnapshot({ openProjects: [join(root, "tsconfig.build.json")] }).getProjects()[0]!;
    const doors = doorsOf();
    const writer = new Pages(project, doors);
    const written = new Map(doors.map((door) => [door.page, writer.page(door)]));
    return { pages: written.set("README.md", indexOf(doors)), bare: [...new Set(writer.bare)] };
  } finally {
    api.close();
  }
}

const { pages, bare } = apiPages();
const problems = bare.map((name) => `${name} is public and has no comment`);
const present = existsSync(folder) ? readdirSync(folder) : [];
const surplus = present.filter((name) => !pages.has(name));
if (process.argv.includes("--check")) {
  const stale = [...pages].filter(([name, text]) => {
    const path = join(folder, name);
    return !existsSync(path) || readFileSync(path, "utf8").replaceAll("\r\n", "\n") !== text;
  });
  for (const name of [...stale.map(([name]) => name), ...surplus]) {
    problems.push(`docs/api/${name} is out of date: npm run docs:api`);
  }
} else {
  mkdirSync(folder, { recursive: true });
  for (const name of surplus) rmSync(join(folder, name));
  for (const [name, text] of pages) writeFileSync(join(folder, name), text);
}
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exitCode = 1;
