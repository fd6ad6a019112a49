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
    int64_t rest = i, at_a = 0, at_b = 0;
    for (int axis = 5; axis >= 0; axis--) {
      int64_t coordinate = rest % s.extent[axis];
      rest /= s.extent[axis];
      at_a += coordinate * s.a[axis];
      at_b += coordinate * s.b[axis];
    }
    store_any(out, i, out_type, apply(op, load_any(a, at_a, a_type), load_any(b, at_b, b_type)));
  }
}
EXPORT(binary)

KERNEL(256, 1) affine(const void* a, int a_type, float alpha, const void* b, int b_type, float beta, float constant, void* out, int out_type, int64_t n) {
  for (int64_t i = first_element(); i < n; i += element_step()) {
    float x = alpha * load_any(a, i, a_type);
    x += b ? beta * load_any(b, i, b_type) : constant;
    store_any(out, i, out_type, x);
  }
}
EXPORT(affine)

KERNEL(256, 1) clamp(const void* x, int x_type, float low, float high, void* out, int out_type, int64_t n) {
  for (int64_t i = first_element(); i < n; i += element_step()) {
    float v = load_any(x, i, x_type);
    store_any(out, i, out_type, v < low ? low : v > high ? high : v);
  }
}
EXPORT(clamp)

KERNEL(256, 1) cast(const void* x, int x_type, void* out, int out_type, int64_t n) {
  for (int64_t i = first_element(); i < n; i += element_step()) store_any(out, i, out_type, load_any(x, i, x_type));
}
EXPORT(cast)

KERNEL(256, 1) fill(void* out, int out_type, float value, int64_t n) {
  for (int64_t i = first_element(); i < n; i += element_step()) store_any(out, i, out_type, value);
}
EXPORT(fill)
