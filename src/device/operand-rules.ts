// The language in which check-operands.ts says what a kernel asks: an operand's shape by letters, its place, its dtype.
import { bytesOf, type DType, dtypes } from "../base/dtype.ts";
import { KinoraError } from "../base/errors.ts";
import { elementCount, rowCount, type Shape, sameShape, shapeText } from "../base/shape.ts";
import type { Operand } from "./kernels.ts";

/** What an operand may hold: a dtype, one of some, any float, or anything. */
export type Types = "any" | "float" | DType | readonly DType[];

/**
 * What an operand must be; one that is absent passes. Its shape is given, or as letters: `B L H D` takes each size for its
 * letter where it comes first and compares from then on; `*M C` is a matrix with any leading shape and M rows; `#N` any
 * shape of N elements.
 */
export type OperandRule = readonly [name: string, operand: Operand | undefined, shape: Shape | string, types: Types];

/** Words, a shape, or some of them in a row; made into text only where it is told. */
export type Told = string | number | readonly Told[];

/** Something else that is wrong. */
export interface Problem {
  readonly code: string;
  readonly what: string;
  readonly expected: Told;
  readonly actual: Told;
}

/** Sizes of letters. */
export type Sizes = Record<string, number>;

export type Rule = OperandRule | Problem | { readonly known: Sizes };

const fine: readonly Problem[] = [];

/** A problem where something does not hold. */
export const ask = (holds: boolean, code: string, what: string, expected: Told, actual: Told): readonly Problem[] =>
  holds ? fine : [{ code: `kernel.${code}`, what, expected, actual }];

function textOf(told: Told): string {
  if (typeof told !== "object") return String(told);
  const shape = told.every((part) => typeof part === "number");
  return shape ? shapeText(told) : told.map(textOf).join("");
}

function fail(code: string, kernel: string, what: string, expected: string, actual: string): never {
  throw new KinoraError(code, `${kernel} ${what}`, { expected, actual });
}

/** Inside its block, at a whole element. */
function checkPlace(kernel: string, name: string, { block, offset, dtype, shape }: Operand): void {
  const size = bytesOf(dtype);
  let count = 1;
  for (const extent of shape) {
    if (!Number.isInteger(extent) || extent < 0) {
      fail("kernel.shape", kernel, `${name} has an impossible shape`, "whole sizes", shapeText(shape));
    }
    count *= extent;
  }
  if (offset < 0 || offset % size !== 0) {
    fail("kernel.out-of-block", kernel, `${name} starts inside an element`, `a multiple of ${size}`, String(offset));
  }
  const end = offset + count * size;
  if (end > block.size) {
    fail("kernel.out-of-block", kernel, `${name} reaches beyond its block`, `≤ ${block.size} bytes`, `${end}`);
  }
}

function checkType(kernel: string, name: string, { dtype }: Operand, types: Types): void {
  if (types === "any" || types === dtype) return;
  if (types === "float") {
    if (!dtypes[dtype].floating) fail("kernel.dtype", kernel, `${name} has the wrong dtype`, "a float dtype", dtype);
  } else if (typeof types === "string" || !types.includes(dtype)) {
    fail("kernel.dtype", kernel, `${name} has the wrong dtype`, [types].flat().join(" or "), dtype);
  }
}

interface Pattern {
  readonly kind: "axes" | "matrix" | "count";
  readonly letters: readonly string[];
}

const patterns = new Map<string, Pattern>();

/** Parsed once for each pattern. */
function patternOf(text: string): Pattern {
  let pattern = patterns.get(text);
  if (!pattern) {
    const kind = text.startsWith("*") ? "matrix" : text.startsWith("#") ? "count" : "axes";
    pattern = { kind, letters: text.replace(/^[*#]/, "").split(" ") };
    patterns.set(text, pattern);
  }
  return pattern;
}

/** The sizes that a pattern's letters stand for; undefined where the shape has not enough axes. */
function sizesIn(shape: Shape, { kind }: Pattern): Shape | undefined {
  if (kind === "axes") return shape;
  if (kind === "count") return [elementCount(shape)];
  return shape.length === 0 ? undefined : [rowCount(shape), shape.at(-1)!];
}

function matches(shape: Shape, pattern: Pattern, known: Sizes): boolean {
  const sizes = sizesIn(shape, pattern);
  if (sizes?.length !== pattern.letters.length) return false;
  for (const [i, letter] of pattern.letters.entries()) {
    known[letter] ??= sizes[i]!;
    if (known[letter] !== sizes[i]) return false;
  }
  return true;
}

/** A pattern in words, with the sizes that are known. */
function patternText({ kind, letters }: Pattern, known: Sizes): string {
  const sizes = letters.map((letter) => known[letter] ?? letter);
  if (kind === "axes") return shapeText(sizes);
  return kind === "count" ? `${sizes[0]} elements` : `${sizes[0]} rows of ${sizes[1]}`;
}

/** Throws at the first rule that is broken. Codes: see check-operands.ts. */
export function checkRules(kernel: string, rules: readonly Rule[]): void {
  const known: Sizes = {};
  for (const rule of rules) {
    if ("known" in rule) Object.assign(known, rule.known);
    else if ("code" in rule) fail(rule.code, kernel, rule.what, textOf(rule.expected), textOf(rule.actual));
    else checkOperand(kernel, rule, known);
  }
}

function checkOperand(kernel: string, [name, operand, shape, types]: OperandRule, known: Sizes): void {
  if (operand === undefined) return;
  checkPlace(kernel, name, operand);
  if (typeof shape !== "string") {
    if (!sameShape(operand.shape, shape)) {
      fail("kernel.shape", kernel, `${name} has the wrong shape`, shapeText(shape), shapeText(operand.shape));
    }
  } else {
    const pattern = patternOf(shape);
    if (!matches(operand.shape, pattern, known)) {
      fail(
        "kernel.shape",
        kernel,
        `${name} has the wrong shape`,
        patternText(pattern, known),
        shapeText(operand.shape),
      );
    }
  }
  checkType(kernel, name, operand, types);
}
