// Going through strided boxes: what broadcasting, copies and reductions have in common.

type Shape = readonly number[];

/**
 * Visits every row of a box: `starts` are the offsets of the row's first element in each of the arrays, `length` its
 * extent on the last axis, `steps` the arrays' strides there. `starts` is the same array each time.
 */
export function walk(
  extent: Shape,
  strides: readonly Shape[],
  visit: (starts: readonly number[], length: number, steps: readonly number[]) => void,
  first: readonly number[] = strides.map(() => 0),
): void {
  if (extent.includes(0)) return;
  const outer = extent.slice(0, -1);
  const length = extent.at(-1) ?? 1;
  const steps = strides.map((stride) => stride.at(-1) ?? 1);
  const index = outer.map(() => 0);
  const starts = [...first];
  for (;;) {
    visit(starts, length, steps);
    let axis = outer.length - 1;
    for (; axis >= 0; axis--) {
      const wraps = ++index[axis]! === outer[axis];
      for (let array = 0; array < starts.length; array++) {
        starts[array]! += strides[array]![axis]! * (wraps ? 1 - outer[axis]! : 1);
      }
      if (!wraps) break;
      index[axis] = 0;
    }
    if (axis < 0) return;
  }
}

/** Row-major strides of `shape` seen as the broadcast `extent`: 0 on axes it repeats along. */
export function broadcastStrides(shape: Shape, extent: Shape): number[] {
  const strides = extent.map(() => 0);
  let stride = 1;
  for (let axis = extent.length - 1, own = shape.length - 1; own >= 0; axis--, own--) {
    if (shape[own] !== 1) strides[axis] = stride;
    stride *= shape[own]!;
  }
  return strides;
}
