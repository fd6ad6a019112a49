// Norms and softmax over the last axis. Long rows are shared by a block, short ones by a warp. Statistics in float32, over the
// row twice, as the reference has it.
#include "device.cuh"

DEVICE float silu_value(float x) { return x / (1.f + expf(-x)); }
DEVICE float silu_slope(float x) { float s = 1.f / (1.f + expf(-x)); return s + x * s * (1.f - s); }

/** A tensor in any format. */
struct Any {
  const void* p; int dtype;
  DEVICE Eight at(int64_t i, int count) const { return load_eight(p, i, dtype, count); }
};

struct Affine { const void* gain; const void* shift; int gain_type, shift_type, modulated; };
/** What a row is multiplied by: a weight, or 1 + a table's row. */
DEVICE Eight gains_at(const Affine& a, int64_t at, int count) {
  Eight g;
  if (a.gain) g = load_eight(a.gain, at, a.gain_type, count);
#pragma unroll
  for (int j = 0; j < 8; j++) g.v[j] = (a.gain ? g.v[j] : 1.f) + (a.modulated ? 1.f : 0.f);
  return g;
}
DEVICE int64_t table_of(const Affine& a, const int* runs, int run_count, int64_t row, int C) {
  return a.modulated ? (int64_t)table_row(runs, run_count, row) * C : 0;
}

/** Mean and inverse deviation of a row, in all its threads. */
struct Statistics { float mean, inverse; };
DEVICE Statistics row_statistics(const Any& x, const Row& row, int C, float eps) {
  const int64_t at = row.index * C;
  float sum = 0.f;
  row.each_eight(C, [&](int c, int count) {
    const Eight e = x.at(at + c, count);
#pragma unroll
    for (int j = 0; j < 8; j++) sum += e.v[j];
  });
  const float mean = row.sum(sum) / C;
  float squares = 0.f;
  row.each_eight(C, [&](int c, int count) {
    const Eight e = x.at(at + c, count);
#pragma unroll
    for (int j = 0; j < 8; j++) { const float d = j < count ? e.v[j] - mean : 0.f; squares += d * d; }
  });
  return {mean, rsqrtf(row.sum(squares) / C + eps)};
}

KERNEL(256, 1) layer_norm(const void* x_data, int x_type, void* out, int out_type, Affine a, const int* runs, int run_count, int C, float eps, int width, int64_t rows) {
  const Any x{x_data, x_type};
  SHARED float scratch[32];
  const Row row = own_row_of(width, scratch);
  if (row.index >= rows) return;
  const int64_t at = row.index * C, table = table_of(a, runs, run_count, row.index, C);
  const Statistics t = row_statistics(x, row, C, eps);
  row.each_eight(C, [&](int c, int count) {
    Eight e = x.at(at + c, count), shift;
    const Eight gain = gains_at(a, table + c, count);
    if (a.shift) shift = load_eight(a.shift, table + c, a.shift_type, count);
#pragma unroll
    for (int j = 0; j < 8; j++) e.v[j] = (e.v[j] - t.mean) * t.inverse * gain.v[j] + (a.shift ? shift.v[j] : 0.f);
    store_eight(out, at + c, out_type, e, count);
  });
}
EXPORT(layer_norm)

/** Σ (x - center)², or Σ x: of a short row, by each thread for itself. */
DEVICE double wide_sum(const Any& x, int64_t at, int C, double center, bool squared) {
  double sum = 0.0;
  for (int c = 0; c < C; c++) { double d = (double)load_any(x.p, at + c, x.dtype) - center; sum += squared ? d * d : d; }
  return sum;
}
DEVICE float gain_at(const Affine& a, int64_t at) { return (a.gain ? load_any(a.gain, at, a.gain_type) : 1.f) + (a.modulated ? 1.f : 0.f); }

/** dx of a row, and its mean and inverse deviation for the tables' gradients. */
KERNEL(256, 1) layer_norm_backward(const void* x_data, int x_type, const void* dy_data, int dy_type, Affine a, const int* runs, int run_count,
                                   void* dx, int dx_type, float* statistics, int C, float eps, int width, int64_t rows) {
  const Any x{x_data, x_type}, dy{dy_data, dy_type};
  SHARED float scratch[32];
  const Row row = own_row_of(width, scratch);
  if (row.index >= rows) return;
  const int64_t at = row.index * C, table = table_of(a, runs, run_count, row.index, C);
  const Statistics t = row_statistics(x, row, C, eps);
  if (row.lane == 0) { statistics[2 * row.index] = t.mean; statistics[2 * row.index + 1] = t.inverse; }
  if (!dx) return;
  if (C < 32) {
    // What is left of short rows is the small difference of nearly equal numbers: all in double, for them alone.
    const double mean = wide_sum(x, at, C, 0.0, false) / C;
    const double factor = 1.0 / sqrt(wide_sum(x, at, C, mean, true) / C + (double)eps);
    double slopes = 0.0, products = 0.0;
    for (int c = 0; c < C; c++) {
      const double slope = (double)load_any(dy.p, at + c, dy.dtype) * gain_at(a, table + c);
      slopes += slope;
      products += slope * ((double)load_any(x.p, at + c, x.dtype) - mean) * factor;
    }
    for (int c = row.lane; c < C; c += row.width) {
      const double normed = ((double)load_any(x.p, at + c, x.dtype) - mean) * factor;
      const double slope = (double)load_any(dy.p, at + c, dy.dtype) * gain_at(a, table + c);
      store_any(dx, at + c, dx_type, (float)(factor * (slope - slopes / C - normed * products / C)));
    }
    return;
  }
  float part = 0.f, product = 0.f;
  row.each_eight(C, [&](int c, int count) {
    const Eight e = x.at(at + c, count), d = dy.at(at + c, count), gain = gains_at(a, table + c, count);
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const float slope = d.v[j] * gain.v[j];
      part += slope;
      product += slope * (e.v[j] - t.mean) * t.inverse;
    }
  });
  const float slopes = row.sum(part) / C, products = row.sum(product) / C;
  row.each_eight(C, [&](int c, int count) {
    const Eight e = x.at(at + c, count), d = dy.at(at + c, count), gain = gains_at(a, table + c, count);
    Eight result;
#pragma unroll
    for (int j = 0; j < 8; j++)
      result.v[j] = t.inverse * (d.v[j] * gain.v[j] - slopes - (e.v[j] - t.mean) * t.inverse * products);
    store_eight(dx, at + c, dx_type, result, count);
  });
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

/** The factor of a row and how it changes (`pull`): kind 0 mean of squares, 1 norm bounded from below. */
DEVICE float rms_factor(const Any& x, const Row& row, int kind, int C, float eps, float& pull) {
  float part = 0.f;
  row.each_eight(C, [&](int c, int count) {
    const Eight e = x.at(row.index * C + c, count);
#pragma unroll
    for (int j = 0; j < 8; j++) part += e.v[j] * e.v[j];
  });
  const float squares = row.sum(part);
  if (kind == 0) {
    const float factor = 1.f / sqrtf(squares / C + eps);
    pull = factor * factor / C;
    return factor;
  }
  const float norm = sqrtf(squares);
  pull = norm <= eps ? 0.f : 1.f / squares;
  return sqrtf((float)C) / (norm <= eps ? eps : norm);
}
KERNEL(256, 1) rms_norm(const void* x_data, int x_type, const void* weight_data, int weight_type, void* out, int out_type, int kind, int silu, int C, float eps, int width, int64_t rows) {
  const Any x{x_data, x_type}, weight{weight_data, weight_type};
  SHARED float scratch[32];
  const Row row = own_row_of(width, scratch);
  if (row.index >= rows) return;
  const int64_t at = row.index * C;
  float pull;
  const float factor = rms_factor(x, row, kind, C, eps, pull);
  row.each_eight(C, [&](int c, int count) {
    Eight e = x.at(at + c, count);
    const Eight w = weight.at(c, count);
#pragma unroll
    for (int j = 0; j < 8; j++) { const float z = e.v[j] * factor * w.v[j]; e.v[j] = silu ? silu_value(z) : z; }
    store_eight(out, at + c, out_type, e, count);
  });
}
EXPORT(rms_norm)
KERNEL(256, 1) rms_norm_backward(const void* x_data, int x_type, const void* weight_data, int weight_type, const void* dy_data, int dy_type, void* dx, int dx_type, float* factors, int kind, int silu, int C, float eps,
                                 int width, int64_t rows) {
  const Any x{x_data, x_type}, weight{weight_data, weight_type}, dy{dy_data, dy_type};
  SHARED float scratch[32];
  const Row row = own_row_of(width, scratch);
  if (row.index >= rows) return;
  const int64_t at = row.index * C;
  float pull;
  const float factor = rms_factor(x, row, kind, C, eps, pull);
  if (row.lane == 0) factors[row.index] = factor;
  if (!dx) return;
  float part = 0.f;
  auto slopes_at = [&](int c, int count, const Eight& e) {
    Eight d = dy.at(at + c, count);
    const Eight w = weight.at(c, count);
#pragma unroll
    for (int j = 0; j < 8; j++) d.v[j] *= (silu ? silu_slope(e.v[j] * factor * w.v[j]) : 1.f) * w.v[j];
    return d;
  };
  row.each_eight(C, [&](int c, int count) {
    const Eight e = x.at(at + c, count), slope = slopes_at(c, count, e);
#pragma unroll
    for (int j = 0; j < 8; j++) part += slope.v[j] * e.v[j];
  });
  const float product = row.sum(part);
  row.each_eight(C, [&](int c, int count) {
    const Eight e = x.at(at + c, count);
    Eight slope = slopes_at(c, count, e);
#pragma unroll
    for (int j = 0; j < 8; j++) slope.v[j] = factor * (slope.v[j] - e.v[j] * pull * product);
    store_eight(dx, at + c, dx_type, slope, count);
  });
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

KERNEL(256, 1) softmax(const void* x_data, int x_type, void* out, int out_type, int C, int width, int64_t rows) {
  const Any x{x_data, x_type};
  SHARED float scratch[32];
  const Row row = own_row_of(width, scratch);
  if (row.index >= rows) return;
  const int64_t at = row.index * C;
  float top = -3.4028234663852886e38f, part = 0.f;
  row.each_eight(C, [&](int c, int count) {
    const Eight e = x.at(at + c, count);
#pragma unroll
    for (int j = 0; j < 8; j++) if (j < count) top = fmaxf(top, e.v[j]);
  });
  top = row.most(top);
  row.each_eight(C, [&](int c, int count) {
    const Eight e = x.at(at + c, count);
#pragma unroll
    for (int j = 0; j < 8; j++) if (j < count) part += expf(e.v[j] - top);
  });
  const float sum = row.sum(part);
  row.each_eight(C, [&](int c, int count) {
    Eight e = x.at(at + c, count);
#pragma unroll
    for (int j = 0; j < 8; j++) e.v[j] = expf(e.v[j] - top) / sum;
    store_eight(out, at + c, out_type, e, count);
  });
}
EXPORT(softmax)
KERNEL(256, 1) softmax_backward(const void* y_data, int y_type, const void* dy_data, int dy_type, void* dx, int dx_type, int C, int width, int64_t rows) {
  const Any y{y_data, y_type}, dy{dy_data, dy_type};
  SHARED float scratch[32];
  const Row row = own_row_of(width, scratch);
  if (row.index >= rows) return;
  const int64_t at = row.index * C;
  float part = 0.f;
  row.each_eight(C, [&](int c, int count) {
    const Eight e = y.at(at + c, count), d = dy.at(at + c, count);
#pragma unroll
    for (int j = 0; j < 8; j++) part += e.v[j] * d.v[j];
  });
  const float shared = row.sum(part);
  row.each_eight(C, [&](int c, int count) {
    Eight e = y.at(at + c, count);
    const Eight d = dy.at(at + c, count);
#pragma unroll
    for (int j = 0; j < 8; j++) e.v[j] *= d.v[j] - shared;
    store_eight(dx, at + c, dx_type, e, count);
  });
}
EXPORT(softmax_backward)
