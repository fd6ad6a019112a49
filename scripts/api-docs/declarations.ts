// What a public name is, as TypeScript without bodies: a function's signature, a class's public members, a type.
import { type Node, SyntaxKind } from "typescript/unstable/ast";
import type { Project, Type } from "typescript/unstable/sync";
import type { TypePrinter } from "./types.ts";

export type ApiSymbol = ReturnType<Project["checker"]["getExportsOfModule"]>[number];

/** The parts of syntax nodes that are read here. */
type Part = Node & {
  readonly type?: Node;
  readonly body?: Node;
  readonly name?: Node;
  readonly initializer?: Node;
  readonly members?: readonly Part[];
  readonly modifiers?: readonly Node[];
  readonly heritageClauses?: readonly Node[];
};

export type Kind = "function" | "class" | "type" | "value" | "namespace";

/** Longer types of values are told by their properties' names alone. */
const LONGEST_VALUE = 600;

const zodInferred = /\bz\.(?:infer|input|output)<|\b(?:EventOf|ResultOf|RequestOf)</;

function partOf(symbol: ApiSymbol, project: Project): Part {
  return symbol.declarations[0]!.resolve(project) as unknown as Part;
}

export function fileOf(symbol: ApiSymbol, project: Project): string {
  return partOf(symbol, project).getSourceFile().fileName;
}

/** The kinds of values that are called are functions, however they are written. */
export function kindOf(symbol: ApiSymbol, project: Project): Kind {
  const part = partOf(symbol, project);
  switch (part.kind) {
    case SyntaxKind.FunctionDeclaration:
      return "function";
    case SyntaxKind.ClassDeclaration:
      return "class";
    case SyntaxKind.InterfaceDeclaration:
    case SyntaxKind.TypeAliasDeclaration:
      return "type";
    case SyntaxKind.SourceFile:
      return "namespace";
    default:
      return isArrow(part) ? "function" : "value";
  }
}

const isArrow = (part: Part): boolean => part.initializer?.kind === SyntaxKind.ArrowFunction;

/** From its beginning to its body's, without `export` and what follows from it. */
function headOf(part: Part): string {
  const text = part.getText();
  const end = part.body ? part.body.getStart() - part.getStart() : text.length;
  return text
    .slice(0, end)
    .replace(/^export /, "")
    .replace(/^((?:static )?)async \*?|^\*/, "$1")
    .replace(/^function\* /, "function ")
    .trimEnd();
}

/** The declaration of a symbol. */
export function declarationOf(symbol: ApiSymbol, name: string, project: Project, printer: TypePrinter): string {
  const { checker } = project;
  const part = partOf(symbol, project);
  if (part.kind === SyntaxKind.FunctionDeclaration) return functionText(symbol, part, project, printer);
  if (part.kind === SyntaxKind.ClassDeclaration) return classText(part);
  if (part.kind === SyntaxKind.InterfaceDeclaration) {
    if (!part.heritageClauses?.length) return headOf(part);
    return `interface ${name} ${printer.members(checker.getDeclaredTypeOfSymbol(symbol), name)}`;
  }
  if (part.kind === SyntaxKind.TypeAliasDeclaration) {
    const head = headOf(part);
    if (!zodInferred.test(head) || /^type \w+</.test(head)) return head;
    return `type ${name} = ${printer.expand(checker.getDeclaredTypeOfSymbol(symbol), name)};`;
  }
  if (isArrow(part)) return functionText(symbol, part, project, printer, name);
  return valueText(checker.getTypeOfSymbol(symbol)!, part, name, project, printer);
}

function functionText(
  symbol: ApiSymbol,
  part: Part,
  project: Project,
  printer: TypePrinter,
  constant?: string,
): string {
  const overloads = symbol.declarations
    .map((handle) => handle.resolve(project) as unknown as Part)
    .filter((declaration, _i, all) => all.length === 1 || !declaration.body);
  if (constant === undefined) return overloads.map((overload) => closed(headOf(overload))).join("\n");
  const arrow = part.initializer as Part;
  const text = arrow.getText();
  const head = text.slice(0, arrow.body!.getStart() - arrow.getStart()).replace(/\s*=>\s*$/, "");
  if (arrow.type) return `function ${constant}${head};`;
  return `const ${constant}: ${printer.plain(project.checker.getTypeOfSymbol(symbol)!)};`;
}

const closed = (text: string): string => (text.endsWith(";") || text.endsWith("}") ? text : `${text};`);

/** Without what is private or protected by a `#`, and without bodies. */
function classText(part: Part): string {
  const text = part.getText();
  const head = text.slice(0, text.indexOf("{")).replace(/^export /, "");
  const shown = (part.members ?? []).filter(
    ({ name, modifiers }) =>
      name?.kind !== SyntaxKind.PrivateIdentifier && !modifiers?.some(({ kind }) => kind === SyntaxKind.PrivateKeyword),
  );
  const members = shown.map((member) => {
    const comment = member.getSourceFile().text.slice(member.getStart(undefined, true), member.getStart());
    return comment.replace(/^ {2}/gm, "").trimEnd() + (comment ? "\n" : "") + closed(memberText(member));
  });
  return `${head}{\n${members.map((member) => `  ${member.replace(/\n/g, "\n  ")}`).join("\n")}\n}`;
}

function memberText(member: Part): string {
  const text = headOf(member).replace(/\n {2}/g, "\n");
  if (!member.initializer) return text;
  // What it begins with is no part of what it is; where its type is not written, the value tells it.
  return member.type ? text.slice(0, member.initializer.getStart() - member.getStart()).replace(/\s*=\s*$/, "") : text;
}

interface Blocks {
  title: string;
  text: string;
}

/** A zod schema by what it gives, a contract by its three schemas, another value by its type. */
function valueText(type: Type, part: Part, name: string, project: Project, printer: TypePrinter): string {
  const { checker } = project;
  const property = (of: Type, key: string): Type | undefined => {
    const found = checker.getPropertyOfType(of, key);
    return found && checker.getTypeOfSymbol(found);
  };
  const parsed = (of: Type, side: "input" | "output"): Type | undefined => {
    const internals = property(of, "_zod");
    return internals && property(internals, side);
  };
  const request = property(type, "request");
  const result = property(type, "result");
  const asked = request && parsed(request, "input");
  if (asked && result) {
    const blocks: Blocks[] = [
      { title: "request", text: printer.expand(asked) },
      { title: "event", text: printer.expand(parsed(property(type, "event")!, "output")!) },
      { title: "result", text: printer.expand(parsed(result, "output")!) },
    ];
    return blocks.map(({ title, text }) => `// ${title}\n${text.trimStart()}`).join("\n\n");
  }
  const output = parsed(type, "output");
  if (output) return `// z.output<typeof ${name}>\n${printer.expand(output, name).trimStart()}`;
  if (part.type) return `const ${name}: ${part.type.getText()};`;
  const text = `const ${name}: ${printer.plain(type)};`;
  if (text.length <= LONGEST_VALUE) return text;
  const keys = checker.getPropertiesOfType(type).map((key) => key.name);
  return checker.isArrayLikeType(type) ? `const ${name}: readonly [ … ];` : `const ${name}: { ${keys.join(", ")} };`;
}
