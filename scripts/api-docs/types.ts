// Types as text for docs/api: what zod infers is written out, property by property, with the comments of its schema.
import {
  type Checker,
  NodeBuilderFlags,
  type Project,
  SignatureKind,
  SymbolFlags,
  type Type,
} from "typescript/unstable/sync";

type TypeSymbol = ReturnType<Checker["getPropertiesOfType"]>[number];

/** Types that are printed by name: what is long and written out somewhere else. */
export type NamedTypes = Map<string, string>;

/** Shorter texts say as much as a name does. */
const WORTH_A_NAME = 120;

/** An object or union that fits stays on one line. */
const ONE_LINE = 100;

/** Deeper nesting is not written out. */
const MAX_DEPTH = 8;

const flags = NodeBuilderFlags.NoTruncation | NodeBuilderFlags.UseAliasDefinedOutsideCurrentScope;

const indented = (text: string): string => text.replace(/\n/g, "\n  ");

/** A comment as it stands above a property. */
function commentOf(text: string): string {
  if (text === "") return "";
  const lines = text.split("\n");
  return lines.length === 1
    ? `/** ${text} */\n`
    : `/**\n${lines.map((line) => ` * ${line}`.trimEnd()).join("\n")}\n */\n`;
}

export class TypePrinter {
  readonly #project: Project;
  readonly #named: NamedTypes;

  constructor(project: Project, named: NamedTypes) {
    this.#project = project;
    this.#named = named;
  }

  get #checker(): Checker {
    return this.#project.checker;
  }

  /** As the compiler writes it. */
  plain(type: Type): string {
    return this.#checker.typeToString(type, undefined, flags);
  }

  /** Objects, unions and lists of them written out. `self`: the name that is being explained here. */
  expand(type: Type, self?: string, depth = 0): string {
    const text = this.#expanded(type, depth, self);
    const name = text.length >= WORTH_A_NAME ? this.#named.get(text) : undefined;
    return name !== undefined && name !== self ? name : text;
  }

  #expanded(type: Type, depth: number, self?: string): string {
    const plain = this.plain(type);
    if (depth > MAX_DEPTH) return plain;
    if (type.isUnionType()) {
      const parts = (type.getTypes() ?? []).map((part) => this.expand(part, undefined, depth + 1));
      if (!parts.some((part) => part.includes("\n"))) return plain.includes("{") ? parts.join(" | ") : plain;
      return parts.map((part) => `\n| ${indented(part)}`).join("");
    }
    if (this.#checker.isArrayType(type) && type.isTypeReference()) {
      const [element] = this.#checker.getTypeArguments(type);
      const inner = this.expand(element!, undefined, depth + 1);
      if (inner === this.plain(element!)) return plain;
      return element!.isUnionType() ? `Array<${inner}>` : `${inner}[]`;
    }
    return this.#isRecord(type) ? this.members(type, self, depth) : plain;
  }

  /** A plain object without a name of its own: no function, class, map or library type. */
  #isRecord(type: Type): boolean {
    if (!type.isObjectType() || type.isTupleType()) return false;
    const checker = this.#checker;
    if (
      [SignatureKind.Call, SignatureKind.Construct].some((kind) => checker.getSignaturesOfType(type, kind).length > 0)
    )
      return false;
    if (checker.getIndexInfosOfType(type).length > 0) return false;
    if (!this.plain(type).startsWith("{")) return false;
    return checker.getPropertiesOfType(type).length > 0;
  }

  /** `{ … }` with every property, inherited ones too. */
  members(type: Type, self?: string, depth = 0): string {
    const lines = this.#checker.getPropertiesOfType(type).map((property) => this.#property(property, depth));
    const short = `{ ${lines.join(" ")} }`;
    if (self === undefined && short.length <= ONE_LINE && !short.includes("\n")) return short;
    return `{\n${lines.map((line) => `  ${indented(line)}`).join("\n")}\n}`;
  }

  #property(property: TypeSymbol, depth: number): string {
    const comment = commentOf(this.#checker.getDocumentationCommentOfSymbol(property));
    const optional = (property.flags & SymbolFlags.Optional) !== 0;
    const name = propertyName(property.name);
    const method = property.declarations[0]?.resolve(this.#project) as MethodNode | undefined;
    if (method?.parameters && method.type) {
      const parameters = method.parameters.map((parameter) => parameter.getText().replace(/\s+/g, " ")).join(", ");
      return `${comment}${name}${optional ? "?" : ""}(${parameters}): ${method.type.getText()};`;
    }
    const type = this.#propertyType(property, optional, depth);
    const union = type.startsWith("\n") ? indented(type) : ` ${type}`;
    return `${comment}${name}${optional ? "?" : ""}:${union};`;
  }

  /** As it is written where somebody wrote it; otherwise as it comes out. */
  #propertyType(property: TypeSymbol, optional: boolean, depth: number): string {
    const node = property.declarations[0]?.resolve(this.#project) as { type?: { getText(): string } } | undefined;
    const written = node?.type?.getText();
    if (written !== undefined) return written.replace(/ \| undefined$/, optional ? "" : " | undefined");
    const type = this.#checker.getTypeOfSymbol(property)!;
    const text = this.expand(type, undefined, depth + 1);
    return optional ? text.replace(/^undefined \| | \| undefined$/, "") : text;
  }
}

interface MethodNode {
  parameters?: readonly { getText(): string }[];
  type?: { getText(): string };
}

/** `[Symbol.dispose]` where the compiler says `__@dispose@241`, whose number changes with other code. */
function propertyName(name: string): string {
  const symbol = /^__@(\w+)@\d+$/.exec(name)?.[1];
  if (symbol !== undefined) return `[Symbol.${symbol}]`;
  return /^[\w$]+$/.test(name) ? name : JSON.stringify(name);
}
