// Mistakes to plant into the kernels, each in a copy, to see that the emulator and the conformance cases notice them.

export interface PlantedFault {
  name: string;
  /** In kernels/cuda. */
  file: string;
  /** For a header: the kernel file that gets a copy of it. */
  within?: string;
  /** What stands there once, and what stands there instead. */
  from: string;
  to: string;
  /** Conformance cases that run it, by the beginning of their names. */
  cases: string;
}

const barrier = "    __syncthreads();\n";
const attention = "attention ";
const gradients = "attentionBackward beyond finite differences";

export const plantedFaults: readonly PlantedFault[] = [
  {
    name: "no barrier between a wait and the rows of v",
    file: "flash.cu",
    from: `    copy_wait<2>();\n${barrier}#pragma unroll\n    for (int c = 0; c < 4; c++) {`,
    to: "    copy_wait<2>();\n#pragma unroll\n    for (int c = 0; c < 4; c++) {",
    cases: attention,
  },
  {
    name: "no barrier before values are written over",
    file: "flash.cu",
    from: "if (t > 0) { copy_wait<2>(); __syncthreads(); }",
    to: "if (t > 0) copy_wait<2>();",
    cases: attention,
  },
  {
    name: "a barrier that one warp passes by",
    file: "flash.cu",
    from: "if (t > 0) { copy_wait<2>(); __syncthreads(); }",
    to: "if (t > 0) { copy_wait<2>(); if (threadIdx.x < 96) __syncthreads(); }",
    cases: attention,
  },
  {
    name: "one group of copies too few is waited for",
    file: "flash.cu",
    from: `    copy_wait<2>();\n${barrier}#pragma unroll`,
    to: `    copy_wait<3>();\n${barrier}#pragma unroll`,
    cases: attention,
  },
  {
    name: "the next keys are not waited for",
    file: "flash.cu",
    from: "if (t > 0) { copy_wait<2>(); __syncthreads(); }",
    to: "if (t > 0) __syncthreads();",
    cases: attention,
  },
  { name: "the mask is off by one", file: "flash.cu", from: "column >= left", to: "column > left", cases: attention },
  {
    name: "key lengths are not looked at",
    file: "flash.cu",
    from: "const int keys = key_lengths ? key_lengths[batch] : Lk;",
    to: "const int keys = Lk;",
    cases: attention,
  },
  {
    name: "rows of one head are taken for neighbours",
    file: "flash.cu",
    from: "(valid ? (first + row) * stride + chunk * 8 : 0)",
    to: "(valid ? (first + row) * D + chunk * 8 : 0)",
    cases: attention,
  },
  {
    name: "a product's halves are swapped",
    file: "flash.cu",
    from: "mma_16x8x16(o[n * 2], a, b[0], b[1]);",
    to: "mma_16x8x16(o[n * 2], a, b[1], b[0]);",
    cases: attention,
  },
  {
    name: "an address of a matrix is not aligned",
    file: "flash.cu",
    from: "cell<D>(tile, c * 16 + (lane & 15), n * 2 + (lane >> 4))",
    to: "cell<D>(tile, c * 16 + (lane & 15), n * 2 + (lane >> 4)) + 4",
    cases: attention,
  },
  {
    name: "a query beyond the last is stored",
    file: "flash.cu",
    from: "if (row >= Lq) continue;",
    to: "if (row > Lq) continue;",
    cases: attention,
  },
  {
    name: "sums are not shrunk when a larger score comes",
    file: "flash.cu",
    from: "{ o[n][r * 2] *= shrink; o[n][r * 2 + 1] *= shrink; }",
    to: "{ o[n][r * 2] *= 1.f; }",
    cases: attention,
  },
  {
    name: "both stages of the backward pass share their statistics",
    file: "flash.cu",
    from: "statistics[(t & 1) * 64 + threadIdx.x] = x;",
    to: "statistics[threadIdx.x] = x;",
    cases: gradients,
  },
  {
    name: "no barrier before queries are written over in the backward pass",
    file: "flash.cu",
    from: `      add_rows<D>(gk, a, qt, c);\n    }\n${barrier}`,
    to: "      add_rows<D>(gk, a, qt, c);\n    }\n",
    cases: gradients,
  },
  {
    name: "keys beyond the length take part in dq",
    file: "flash.cu",
    from: "n * 8 + own_column(i & 1) < left ? exp2_fast(s[n][i] * factor - lse[i >> 1]) : 0.f",
    to: "exp2_fast(s[n][i] * factor - lse[i >> 1])",
    cases: gradients,
  },
  {
    name: "the scale is missing in dq",
    file: "flash.cu",
    from: "store_row<D>(dq + own + row * stride, gq, r, g.scale)",
    to: "store_row<D>(dq + own + row * stride, gq, r, 1.f)",
    cases: gradients,
  },
  {
    name: "a sum's scratch is written over before all have read it",
    file: "device.cuh",
    within: "norms.cu",
    from: "sum += scratch[i];\n  __syncthreads();",
    to: "sum += scratch[i];",
    cases: "norms, softmax and their gradients of rows",
  },
  {
    name: "the last eight elements are stored whole",
    file: "device.cuh",
    within: "elementwise.cu",
    from: "f(i, n - i < 8 ? (int)(n - i) : 8);",
    to: "f(i, 8);",
    cases: "activation",
  },
  {
    name: "a convolution's padding has the wrong sign",
    file: "convolution.cu",
    from: "const int i = at * stride + tap - front;",
    to: "const int i = at * stride + tap + front;",
    cases: "conv3d",
  },
  {
    name: "a sum over rows stops one row early",
    file: "movement.cu",
    from: "for (int64_t r = first; r < end; r++)",
    to: "for (int64_t r = first; r < end - 1; r++)",
    cases: "sum",
  },
];
