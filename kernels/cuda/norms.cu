// Norms and softmax over the last axis: one block a row. Statistics in float32, over the row twice, as the reference has it.
#include "device.cuh"

DEVICE float silu_value(float x) { return x / (1.f + expf(-x)); }
DEVICE float silu_slope(float x) { float s = 1.f / (1.f + expf(-x)); return s + x * s * (1.f - s); }

struct Affine { const void* gain; const void* shift; int gain_type, shift_type, modulated; };
DEVICE float gain_at(const Affine& a, int64_t at) { return (a.gain ? load_any(a.gain, at, a.gain_type) : 1.f) + (a.modulated ? 1.f : 0.f); }

/** Mean and inverse deviation of a row, in all threads of its block. */
struct Statistics { float mean, inverse; };
DEVICE Statistics row_statistics(const void* x, int x_type, int64_t at, int C, float eps, float* scratch) {
  float sum = 0.f;
  for (int c = threadIdx.x; c < C; c += 256) sum += load_any(x, at + c, x_type);
  const float mean = block_sum(sum, scratch) / C;
  float squares = 0.f;
  for (int c = threadIdx.x; c < C; c += 256) { float d = load_any(x, at + c, x_type) - mean; squares += d * d; }
  return {mean, rsqrtf(block_sum(squares, scratch) / C + eps)};
}

KERNEL(256, 1) layer_norm(const void* x, int x_type, void* out, int out_type, Affine a, const int* runs, int run_count, int C, float eps) {
  SHARED float scratch[32];
  const int64_t row = blockIdx.x, at = row * C;
  const int64_t table = a.modulated ? (int64_t)table_row(runs, run_count, row) * C : 0;
  const Statistics t = row_statistics(x, x_type, at, C, eps, scratch);
  for (int c = threadIdx.x; c < C; c += 256) {
    float shift = a.shift ? load_any(a.shift, table + c, a.shift_type) : 0.f;
    store_any(out, at + c, out_type, (load_any(x, at + c, x_type) - t.mean) * t.inverse * gain_at(a, table + c) + shift);
  }
}
EXPORT(layer_norm)

/** Σ (x - center)², or Σ x: of a short row, by each thread for itself. */
DEVICE double wide_sum(const void* x, int x_type, int64_t at, int C, double center, bool squared) {
  double sum = 0.0;
  for (int c = 0; c < C; c++) { double d = (double)load_any(x, at + c, x_type) - center; sum += squared ? d * d : d; }
  return sum;
}

/** dx of a row, and its mean and inverse deviation for the tables' gradients. */
KERNEL(256, 1) layer_norm_backward(const void* x, int x_type, const void* dy, int dy_type, Affine a, const int* runs, int run_count,
                                   void* dx, int dx_type, float* statistics, int C, float eps) {
  SHARED float scratch[32];
  const int64_t row = blockIdx.x, at = row * C;
  const int64_t table = a.modulated ? (int64_t)table_row(runs, run_count, row) * C : 0;
  const Statistics t = row_statistics(x, x_type, at, C, eps, scratch);
  if (threadIdx.x == 0) { statistics[2 * row] = t.mean; statistics[2 * row + 1] = t.inverse; }
  if (!dx) return;
  // What is left of short rows is the small difference of nearly equal numbers: statistics again in double, for them alone.
  const bool short_row = C < 32;
  const double center = short_row ? wide_sum(x, x_type, at, C, 0.0, false) / C : (double)t.mean;
  const double factor = short_row ? 1.0 / sqrt(wide_sum(x, x_type, at, C, center, true) / C + (double)eps) : (double)t.inverse;
  double slopes = 0.0, products = 0.0;
  if (short_row) {
    for (int c = 0; c < C; c++) {
      double slope = (double)load_any(dy, at + c, dy_type) * gain_at(a, table + c);
      slopes += slope;
      products += slope * ((double)load_any(x, at + c, x_type) - center) * factor;
    }
  } else {
    float part = 0.f, product = 0.f;
    for (int c = threadIdx.x; c < C; c += 256) {
      float slope = load_any(dy, at + c, dy_type) * gain_at(a, table + c);
      part += slope;
      product += slope * (load_any(x, at + c, x_type) - t.mean) * t.inverse;
    }
    slopes = block_sum(part, scratch);
    products = block_sum(product, scratch);
  }
  slopes /= C;
  products /= C;
  for (int c = threadIdx.x; c < C; c += 256) {
    double normed = ((double)load_any(x, at + c, x_type) - center) * factor;
    double slope = (double)load_any(dy, at + c, dy_type) * gain_at(a, table + c);
    store_any(dx, at + c, dx_type, (float)(factor * (slope - slopes - normed * products)));
  }
}
EXPORT(layer_norm_backward)

/** Parts of Σ dy·normed and Σ dy over chunks of rows: [chunks, C] each. */
KERNEL(256, 1) layer_norm_parts(const void* x, int x_type, const void* dy, int dy_type, const float* statistics, const int* chunks,
                                float* gains, float* shifts, int C) {
  const int c = blockIdx.x * 256 + threadIdx.x;
  const int first = chunks[2 * blockIdx.y], rows = chunks[2 * blockIdx.y + 1];
  if (c >= C) return;
  float gain = 0.f, shift = 0.f;
  for (int r = first; r < first + rows; r++) {
    int64_t i = (int64_t)r * C + c;
    float d = load_any(dy, i, dy_type);
    gain += d * (load_any(x, i, x_type) - statistics[2 * r]) * statistics[2 * r + 1];
    shift += d;
  }
  gains[(int64_t)blockIdx.y * C + c] = gain;
  shifts[(int64_t)blockIdx.y * C + c] = shift;
}
EXPORT(layer_norm_parts)

DEVICE float row_squares(const void* x, int x_type, int64_t at, int C, float* scratch) {
  float squares = 0.f;
  for (int c = threadIdx.x; c < C; c += 256) { float v = load_any(x, at + c, x_type); squares += v * v; }
  return block_sum(squares, scratch);
}
/** The factor of a row and how it changes (`pull`): kind 0 mean of squares, 1 norm bounded from below. */
DEVICE float rms_factor(float squares, int kind, int C, float eps, float& pull) {
  if (kind == 0) {
    const float factor = 1.f / sqrtf(squares / C + eps);
    pull = factor * factor / C;
    return factor;
  }
  const float norm = sqrtf(squares);
  pull = norm <= eps ? 0.f : 1.f / squares;
  return sqrtf((float)C) / (norm <= eps ? eps : norm);
}
KERNEL(256, 1) rms_norm(const void* x, int x_type, const void* weight, int weight_type, void* out, int out_type, int kind, int silu, int C, float eps) {
  SHARED float scratch[32];
  const int64_t at = (int64_t)blockIdx.x * C;
  float pull;
  const float factor = rms_factor(row_squares(x, x_type, at, C, scratch), kind, C, eps, pull);
  for (int c = threadIdx.x; c < C; c += 256) {
    float z = load_any(x, at + c, x_type) * factor * load_any(weight, c, weight_type);
    store_any(out, at + c, out_type, silu ? silu_value(z) : z);
  }
}
EXPORT(rms_norm)
KERNEL(256, 1) rms_norm_backward(const void* x, int x_type, const void* weight, int weight_type, const void* dy, int dy_type,
                                 void* dx, int dx_type, float* factors, int kind, int silu, int C, float eps) {
  SHARED float scratch[32];
  const int64_t at = (int64_t)blockIdx.x * C;
  float pull;
  const float factor = rms_factor(row_squares(x, x_type, at, C, scratch), kind, C, eps, pull);
  if (threadIdx.x == 0) factors[blockIdx.x] = factor;
  if (!dx) return;
  float product = 0.f;
  for (int c = threadIdx.x; c < C; c += 256) {
    float v = load_any(x, at + c, x_type), w = load_any(weight, c, weight_type);
    product += load_any(dy, at + c, dy_type) * (silu ? silu_slope(v * factor * w) : 1.f) * w * v;
  }
  product = block_sum(product, scratch);
  for (int c = threadIdx.x; c < C; c += 256) {
    float v = load_any(x, at + c, x_type), w = load_any(weight, c, weight_type);
    float slope = load_any(dy, at + c, dy_type) * (silu ? silu_slope(v * factor * w) : 1.f) * w;
    store_any(dx, at + c, dx_type, factor * (slope - v * pull * product));
  }
}
EXPORT(rms_norm_backward)
KERNEL(256, 1) rms_norm_parts(const void* x, int x_type, const void* weight, int weight_type, const void* dy, int dy_type,
                              const float* factors, const int* chunks, float* parts, int silu, int C) {
  const int c = blockIdx.x * 256 + threadIdx.x;
  const int first = chunks[2 * blockIdx.y], rows = chunks[2 * blockIdx.y + 1];
  if (c >= C) return;
  const float w = load_any(weight, c, weight_type);
  float sum = 0.f;
  for (int r = first; r < first + rows; r++) {
    int64_t i = (int64_t)r * C + c;
    float normed = load_any(x, i, x_type) * factors[r];
    sum += load_any(dy, i, dy_type) * (silu ? silu_slope(normed * w) : 1.f) * normed;
  }
  parts[(int64_t)blockIdx.y * C + c] = sum;
}
EXPORT(rms_norm_parts)

KERNEL(256, 1) softmax(const void* x, int x_type, void* out, int out_type, int C) {
  SHARED float scratch[32];
  const int64_t at = (int64_t)blockIdx.x * C;
  float top = -3.4028234663852886e38f;
  for (int c = threadIdx.x; c < C; c += 256) top = fmaxf(top, load_any(x, at + c, x_type));
  top = block_max(top, scratch);
  float sum = 0.f;
  for (int c = threadIdx.x; c < C; c += 256) sum += expf(load_any(x, at + c, x_type) - top);
  sum = block_sum(sum, scratch);
  for (int c = threadIdx.x; c < C; c += 256) store_any(out, at + c, out_type, expf(load_any(x, at + c, x_type) - top) / sum);
}
EXPORT(softmax)
KERNEL(256, 1) softmax_backward(const void* y, int y_type, const void* dy, int dy_type, void* dx, int dx_type, int C) {
  SHARED float scratch[32];
  const int64_t at = (int64_t)blockIdx.x * C;
  float shared = 0.f;
  for (int c = threadIdx.x; c < C; c += 256) shared += load_any(y, at + c, y_type) * load_any(dy, at + c, dy_type);
  shared = block_sum(shared, scratch);
  for (int c = threadIdx.x; c < C; c += 256)
    store_any(dx, at + c, dx_type, load_any(y, at + c, y_type) * (load_any(dy, at + c, dy_type) - shared));
}
EXPORT(softmax_backward)
