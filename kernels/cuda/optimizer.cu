// AdamW with float32 and 8-bit states, quantising and widening of weights. Runs of elements share a scale.
#include "device.cuh"

struct AdamW { float decay, rate, beta1, beta2, eps, correction2, scale; };
DEVICE float adamw_step(float p, float m, float v, const AdamW& o) {
  return p * o.decay - o.rate * m / (sqrtf(v) / o.correction2 + o.eps);
}
KERNEL(256, 1) adamw(float* p, const void* g, int g_type, float* m, float* v, AdamW o, int64_t n) {
  each_eight(n, [&](int64_t i, int count) {
    const Eight gradient = load_eight(g, i, g_type, count);
    Eight value = load_eight(p, i, F32, count), first = load_eight(m, i, F32, count), second = load_eight(v, i, F32, count);
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const float scaled = gradient.v[j] * o.scale;
      first.v[j] = o.beta1 * first.v[j] + (1.f - o.beta1) * scaled;
      second.v[j] = o.beta2 * second.v[j] + (1.f - o.beta2) * scaled * scaled;
      value.v[j] = adamw_step(value.v[j], first.v[j], second.v[j], o);
    }
    store_eight(p, i, F32, value, count);
    store_eight(m, i, F32, first, count);
    store_eight(v, i, F32, second, count);
  });
}
EXPORT(adamw)

/** The code whose value is nearest: codes rise; the lower one at equal distance. */
DEVICE int nearest_code(const float* values, float x) {
  int low = 0, high = 255;
  while (low < high) {
    int middle = (low + high) >> 1;
    double between = ((double)values[middle] + (double)values[middle + 1]) / 2;
    if ((double)x > between) low = middle + 1; else high = middle;
  }
  return low;
}
/** One block of threads a block of 256 elements; `codes` are the 256 signed, then the 256 unsigned values. */
KERNEL(256, 1) adamw_8bit(float* p, const void* g, int g_type, uint8_t* m, float* m_scale, uint8_t* v, float* v_scale,
                          const float* codes, AdamW o, int64_t n) {
  SHARED float scratch[32];
  const int64_t block = blockIdx.x, i = block * 256 + threadIdx.x;
  float first = 0.f, second = 0.f;
  if (i < n) {
    float gradient = load_any(g, i, g_type) * o.scale;
    first = o.beta1 * (codes[m[i]] * m_scale[block]) + (1.f - o.beta1) * gradient;
    second = o.beta2 * (codes[256 + v[i]] * v_scale[block]) + (1.f - o.beta2) * gradient * gradient;
    p[i] = adamw_step(p[i], first, second, o);
  }
  const float top_first = block_max(fabsf(first), scratch), top_second = block_max(second, scratch);
  if (i < n) {
    float x = top_first == 0.f ? 0.f : first / top_first;
    int code = nearest_code(codes, x);
    // A first moment never loses its sign to rounding.
    if (x < 0.f && codes[code] >= 0.f) code--;
    m[i] = (uint8_t)code;
    v[i] = (uint8_t)nearest_code(codes + 256, top_second == 0.f ? 0.f : second / top_second);
  }
  if (threadIdx.x == 0) { m_scale[block] = top_first; v_scale[block] = top_second; }
}
EXPORT(adamw_8bit)

/** One block of threads a run that shares a scale. */
KERNEL(256, 1) quantize(const void* x, int x_type, void* data, int data_type, float* scale, int64_t span, float largest) {
  SHARED float scratch[32];
  const int64_t start = (int64_t)blockIdx.x * span;
  float top = 0.f;
  for (int64_t i = threadIdx.x; i < span; i += 256) top = fmaxf(top, fabsf(load_any(x, start + i, x_type)));
  top = block_max(top, scratch);
  const float unit = top == 0.f ? 1.f : top / largest;
  if (threadIdx.x == 0) scale[blockIdx.x] = unit;
  for (int64_t i = threadIdx.x; i < span; i += 256) {
    float ratio = fminf(largest, fmaxf(-largest, load_any(x, start + i, x_type) / unit));
    if (data_type == I8) ((int8_t*)data)[start + i] = (int8_t)rintf(ratio);
    else store_any(data, start + i, data_type, ratio);
  }
}
EXPORT(quantize)
KERNEL(256, 1) dequantize(const void* data, int data_type, const float* scale, void* out, int out_type, int64_t span, int64_t n) {
  each_eight(n, [&](int64_t i, int count) {
    Eight e = load_eight(data, i, data_type, count);
    if (scale)
#pragma unroll
      for (int j = 0; j < 8; j++) if (j < count) e.v[j] *= scale[(i + j) / span];
    store_eight(out, i, out_type, e, count);
  });
}
EXPORT(dequantize)
