// Elementwise kernels: broadcasting arithmetic, casts, fills, activations. Formats are told at run time: these kernels wait
// for memory, not for arithmetic.
#include "device.cuh"

/** Shapes of at most six axes, with the strides of both operands in elements; 0 where an operand is broadcast. */
struct Broadcast { int64_t count; int extent[6]; int a[6]; int b[6]; };

DEVICE float apply(int op, float a, float b) {
  switch (op) {
    case 0: return a + b;
    case 1: return a - b;
    case 2: return a * b;
    default: return a / b;
  }
}
KERNEL(256, 1) binary(const void* a, int a_type, const void* b, int b_type, void* out, int out_type, int op, Broadcast s) {
  for (int64_t i = first_element(); i < s.count; i += element_step()) {
    int64_t at_a, at_b;
    offsets<6>(i, s.extent, s.a, s.b, at_a, at_b);
    store_any(out, i, out_type, apply(op, load_any(a, at_a, a_type), load_any(b, at_b, b_type)));
  }
}
EXPORT(binary)

KERNEL(256, 1) affine(const void* a, int a_type, float alpha, const void* b, int b_type, float beta, float constant, void* out, int out_type, int64_t n) {
  each_eight(n, [&](int64_t i, int count) {
    Eight e = load_eight(a, i, a_type, count), other;
    if (b) other = load_eight(b, i, b_type, count);
#pragma unroll
    for (int j = 0; j < 8; j++) e.v[j] = alpha * e.v[j] + (b ? beta * other.v[j] : 0.f) + constant;
    store_eight(out, i, out_type, e, count);
  });
}
EXPORT(affine)

KERNEL(256, 1) clamp(const void* x, int x_type, float low, float high, void* out, int out_type, int64_t n) {
  each_eight(n, [&](int64_t i, int count) {
    Eight e = load_eight(x, i, x_type, count);
#pragma unroll
    for (int j = 0; j < 8; j++) e.v[j] = e.v[j] < low ? low : e.v[j] > high ? high : e.v[j];
    store_eight(out, i, out_type, e, count);
  });
}
EXPORT(clamp)

KERNEL(256, 1) cast(const void* x, int x_type, void* out, int out_type, int64_t n) {
  each_eight(n, [&](int64_t i, int count) { store_eight(out, i, out_type, load_eight(x, i, x_type, count), count); });
}
EXPORT(cast)

KERNEL(256, 1) fill(void* out, int out_type, float value, int64_t n) {
  const Eight e = {value, value, value, value, value, value, value, value};
  each_eight(n, [&](int64_t i, int count) { store_eight(out, i, out_type, e, count); });
}
EXPORT(fill)

DEVICE float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }
DEVICE float activated(int kind, float x) {
  switch (kind) {
    case 0: return 0.5f * x * (1.f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
    case 1: return x * sigmoid(x);
    case 2: return x * sigmoid(1.702f * x);
    default: return 0.5f * x * (1.f + erff(x * 0.7071067811865476f));
  }
}
DEVICE float activated_slope(int kind, float x) {
  switch (kind) {
    case 0: {
      float t = tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x));
      return 0.5f * (1.f + t) + 0.5f * x * (1.f - t * t) * 0.7978845608028654f * (1.f + 0.134145f * x * x);
    }
    case 1: { float s = sigmoid(x); return s + x * s * (1.f - s); }
    case 2: { float s = sigmoid(1.702f * x); return s + 1.702f * x * s * (1.f - s); }
    default: return 0.5f * (1.f + erff(x * 0.7071067811865476f)) + x * expf(-0.5f * x * x) * 0.3989422804014327f;
  }
}
KERNEL(256, 1) activation(int kind, const void* x, int x_type, void* out, int out_type, int64_t n) {
  each_eight(n, [&](int64_t i, int count) {
    Eight e = load_eight(x, i, x_type, count);
#pragma unroll
    for (int j = 0; j < 8; j++) e.v[j] = activated(kind, e.v[j]);
    store_eight(out, i, out_type, e, count);
  });
}
EXPORT(activation)
KERNEL(256, 1) activation_backward(int kind, const void* x, int x_type, const void* dy, int dy_type, void* dx, int dx_type, int64_t n) {
  each_eight(n, [&](int64_t i, int count) {
    Eight e = load_eight(x, i, x_type, count);
    const Eight d = load_eight(dy, i, dy_type, count);
#pragma unroll
    for (int j = 0; j < 8; j++) e.v[j] = d.v[j] * activated_slope(kind, e.v[j]);
    store_eight(dx, i, dx_type, e, count);
  });
}
EXPORT(activation_backward)

/** Rows [rows, C] of one table row each: f(first element, count, column, table row), eights that end with their row. */
template <class F> DEVICE void each_eight_of_rows(int64_t n, int C, const int* runs, int run_count, F f) {
  const int per_row = (C + 7) / 8;
  const int64_t total = C ? n / C * per_row : 0;
  for (int64_t i = first_element(); i < total; i += element_step()) {
    const int64_t row = i / per_row;
    const int column = (int)(i % per_row) * 8;
    f(row * C + column, C - column < 8 ? C - column : 8, column, runs ? (int64_t)table_row(runs, run_count, row) * C : 0);
  }
}

/** What follows a product: out = activation(z + bias)·gate + residual; gate rows by runs. Any part may be absent. */
KERNEL(256, 1) epilogue(const void* z, int z_type, const void* bias, int bias_type, int kind, const float* gate, const int* runs, int run_count,
                        const void* residual, int residual_type, void* out, int out_type, int C, int64_t n) {
  each_eight_of_rows(n, C, gate ? runs : nullptr, run_count, [&](int64_t i, int count, int column, int64_t table) {
    Eight e = load_eight(z, i, z_type, count), other;
    if (bias) {
      other = load_eight(bias, column, bias_type, count);
#pragma unroll
      for (int j = 0; j < 8; j++) e.v[j] += other.v[j];
    }
    if (kind >= 0)
#pragma unroll
      for (int j = 0; j < 8; j++) e.v[j] = activated(kind, e.v[j]);
    if (gate) {
      other = load_eight(gate, table + column, F32, count);
#pragma unroll
      for (int j = 0; j < 8; j++) e.v[j] *= other.v[j];
    }
    if (residual) {
      other = load_eight(residual, i, residual_type, count);
#pragma unroll
      for (int j = 0; j < 8; j++) e.v[j] += other.v[j];
    }
    store_eight(out, i, out_type, e, count);
  });
}
EXPORT(epilogue)

/** out = x + y·table[row]. */
KERNEL(256, 1) gated_add(const void* x, int x_type, const void* y, int y_type, const void* table, int table_type,
                         const int* runs, int run_count, void* out, int out_type, int C, int64_t n) {
  each_eight_of_rows(n, C, runs, run_count, [&](int64_t i, int count, int column, int64_t row) {
    Eight e = load_eight(y, i, y_type, count), other;
    const Eight gate = load_eight(table, row + column, table_type, count);
    if (x) other = load_eight(x, i, x_type, count);
#pragma unroll
    for (int j = 0; j < 8; j++) e.v[j] = e.v[j] * gate.v[j] + (x ? other.v[j] : 0.f);
    store_eight(out, i, out_type, e, count);
  });
}
EXPORT(gated_add)

/** Pairs are adjacent; rows of the sequence beyond the table pass. [B, L, H, D]. */
KERNEL(256, 1) rope(const void* x, int x_type, const float* cosines, const float* sines, int rows, float direction,
                    void* out, int out_type, int L, int H, int D, int64_t pairs) {
  const int half = D / 2;
  for (int64_t i = first_element(); i < pairs; i += element_step()) {
    int64_t token = i / ((int64_t)half * H);
    int position = (int)(token % L), pair = (int)(i % half);
    float a = load_any(x, 2 * i, x_type), b = load_any(x, 2 * i + 1, x_type);
    if (position < rows) {
      float c = cosines[(int64_t)position * half + pair], s = direction * sines[(int64_t)position * half + pair];
      float turned = a * c - b * s;
      b = a * s + b * c;
      a = turned;
    }
    store_any(out, 2 * i, out_type, a);
    store_any(out, 2 * i + 1, out_type, b);
  }
}
EXPORT(rope)

/** The words of a block of Philox; the same as base/rng/philox-rng.ts, in double as there. */
DEVICE void philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1, uint32_t (&out)[4]) {
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)0xd2511f53u * c0, p1 = (uint64_t)0xcd9e8d57u * c2;
    uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)p1; c3 = (uint32_t)p0; c0 = n0; c2 = n2;
    k0 += 0x9e3779b9u; k1 += 0xbb67ae85u;
  }
  out[0] = c0; out[1] = c1; out[2] = c2; out[3] = c3;
}
KERNEL(256, 1) normal(float* out, int64_t n, int64_t offset, int seed_low, int seed_high, int stream_low, int stream_high) {
  const int64_t first = offset / 4, last = (offset + n + 3) / 4;
  for (int64_t block = first + first_element(); block < last; block += element_step()) {
    uint32_t w[4];
    philox((uint32_t)block, (uint32_t)((uint64_t)block >> 32), (uint32_t)stream_low, (uint32_t)stream_high, (uint32_t)seed_low, (uint32_t)seed_high, w);
    for (int k = 0; k < 4; k += 2) {
      double radius = sqrt(-2.0 * log(((double)w[k] + 0.5) * 2.3283064365386962890625e-10));
      double angle = 6.283185307179586 * (((double)w[k + 1] + 0.5) * 2.3283064365386962890625e-10);
      for (int j = 0; j < 2; j++) {
        int64_t at = block * 4 + k + j - offset;
        if (at >= 0 && at < n) out[at] = (float)(radius * (j ? sin(angle) : cos(angle)));
      }
    }
  }
}
EXPORT(normal)
