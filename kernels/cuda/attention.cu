// Attention in float32, exact: for every format and head size, for biases, and for gradients that the kernels on tensor cores
// (flash.cu) do not take. q, k, v, out [B, L, H, D].
#include "device.cuh"

struct Sizes { int heads, Lq, Lk, D, type; float scale; };
/** The score of query i and key j of a head; `row` holds the query. */
DEVICE float score(const float* row, const void* k, int64_t key, const float* bias, int i, int j, int head, const Sizes& s) {
  float sum = 0.f;
  for (int d = 0; d < s.D; d++) sum += row[d] * load_any(k, key + d, s.type);
  sum *= s.scale;
  return bias ? sum + bias[((int64_t)head * s.Lq + i) * s.Lk + j] : sum;
}
DEVICE int64_t place(int batch, int L, int row, int head, const Sizes& s) { return (((int64_t)batch * L + row) * s.heads + head) * s.D; }

/** One block of 128 threads a query: a tile of 128 keys at a time, a thread a key, then a thread an output. */
KERNEL(128, 1) attention_exact(const void* q, const void* k, const void* v, void* out, float* lse, const int* key_lengths, const float* bias, Sizes s) {
  DYNAMIC_SHARED(shared);
  float *row = (float*)shared, *sum = row + s.D, *p = sum + s.D, *scratch = p + 128;
  const int i = blockIdx.x, head = blockIdx.y, batch = blockIdx.z;
  const int keys = key_lengths ? key_lengths[batch] : s.Lk;
  const int64_t at = place(batch, s.Lq, i, head, s);
  for (int d = threadIdx.x; d < s.D; d += 128) { row[d] = load_any(q, at + d, s.type); sum[d] = 0.f; }
  __syncthreads();
  float high = -INFINITE, total = 0.f;
  for (int first = 0; first < keys; first += 128) {
    const int j = first + threadIdx.x;
    float x = j < keys ? score(row, k, place(batch, s.Lk, j, head, s), bias, i, j, head, s) : -INFINITE;
    const float top = fmaxf(high, block_max(x, scratch));
    const float shrink = high == top ? 1.f : expf(high - top);
    const float e = j < keys ? expf(x - top) : 0.f;
    p[threadIdx.x] = e;
    total = total * shrink + block_sum(e, scratch);
    high = top;
    const int count = keys - first < 128 ? keys - first : 128;
    for (int d = threadIdx.x; d < s.D; d += 128) {
      float o = sum[d] * shrink;
      for (int n = 0; n < count; n++) o += p[n] * load_any(v, place(batch, s.Lk, first + n, head, s) + d, s.type);
      sum[d] = o;
    }
    __syncthreads();
  }
  for (int d = threadIdx.x; d < s.D; d += 128) store_any(out, at + d, s.type, keys > 0 ? sum[d] / total : 0.f);
  if (lse && threadIdx.x == 0) lse[((int64_t)batch * s.heads + head) * s.Lq + i] = keys > 0 ? high + logf(total) : -INFINITE;
}
EXPORT(attention_exact)

/** Σ out·dout of each query and head: what all its keys share. One warp a row; rows are [B, Lq, H], delta is [B, H, Lq]. */
KERNEL(128, 1) attention_delta(const void* out, const void* dout, float* delta, Sizes s, int64_t rows) {
  const int64_t row = (int64_t)blockIdx.x * 4 + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  float sum = 0.f;
  if (row < rows)
    for (int d = lane; d < s.D; d += 32) sum += load_any(out, row * s.D + d, s.type) * load_any(dout, row * s.D + d, s.type);
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) sum += shuffle_xor(sum, mask);
  if (row < rows && lane == 0) {
    int64_t head = row % s.heads, token = row / s.heads;
    delta[((token / s.Lq) * s.heads + head) * s.Lq + token % s.Lq] = sum;
  }
}
EXPORT(attention_delta)

KERNEL(128, 1) attention_backward_query(const void* q, const void* k, const void* v, const void* dout, const float* lse, const float* delta,
                                        const int* key_lengths, const float* bias, void* dq, Sizes s) {
  DYNAMIC_SHARED(shared);
  float *row = (float*)shared, *gradient = row + s.D, *sum = gradient + s.D, *p = sum + s.D;
  const int i = blockIdx.x, head = blockIdx.y, batch = blockIdx.z;
  const int keys = key_lengths ? key_lengths[batch] : s.Lk;
  const int64_t at = place(batch, s.Lq, i, head, s), statistic = ((int64_t)batch * s.heads + head) * s.Lq + i;
  for (int d = threadIdx.x; d < s.D; d += 128) { row[d] = load_any(q, at + d, s.type); gradient[d] = load_any(dout, at + d, s.type); sum[d] = 0.f; }
  __syncthreads();
  for (int first = 0; first < keys; first += 128) {
    const int j = first + threadIdx.x;
    if (j < keys) {
      const int64_t key = place(batch, s.Lk, j, head, s);
      float weight = expf(score(row, k, key, bias, i, j, head, s) - lse[statistic]), dp = 0.f;
      for (int d = 0; d < s.D; d++) dp += gradient[d] * load_any(v, key + d, s.type);
      p[threadIdx.x] = weight * (dp - delta[statistic]) * s.scale;
    }
    __syncthreads();
    const int count = keys - first < 128 ? keys - first : 128;
    for (int d = threadIdx.x; d < s.D; d += 128) {
      float g = sum[d];
      for (int n = 0; n < count; n++) g += p[n] * load_any(k, place(batch, s.Lk, first + n, head, s) + d, s.type);
      sum[d] = g;
    }
    __syncthreads();
  }
  for (int d = threadIdx.x; d < s.D; d += 128) store_any(dq, at + d, s.type, sum[d]);
}
EXPORT(attention_backward_query)

/** One block a key: a tile of 128 queries at a time. */
KERNEL(128, 1) attention_backward_key(const void* q, const void* k, const void* v, const void* dout, const float* lse, const float* delta,
                                      const int* key_lengths, const float* bias, void* dk, void* dv, Sizes s) {
  DYNAMIC_SHARED(shared);
  float *key = (float*)shared, *value = key + s.D, *sum_k = value + s.D, *sum_v = sum_k + s.D, *p = sum_v + s.D, *ds = p + 128;
  const int j = blockIdx.x, head = blockIdx.y, batch = blockIdx.z;
  const int keys = key_lengths ? key_lengths[batch] : s.Lk;
  const int64_t at = place(batch, s.Lk, j, head, s);
  for (int d = threadIdx.x; d < s.D; d += 128) { key[d] = load_any(k, at + d, s.type); value[d] = load_any(v, at + d, s.type); sum_k[d] = 0.f; sum_v[d] = 0.f; }
  __syncthreads();
  for (int first = 0; first < s.Lq && j < keys; first += 128) {
    const int i = first + threadIdx.x;
    if (i < s.Lq) {
      const int64_t query = place(batch, s.Lq, i, head, s), statistic = ((int64_t)batch * s.heads + head) * s.Lq + i;
      float weight = expf(score(key, q, query, bias, i, j, head, s) - lse[statistic]), dp = 0.f;
      for (int d = 0; d < s.D; d++) dp += value[d] * load_any(dout, query + d, s.type);
      p[threadIdx.x] = weight;
      ds[threadIdx.x] = weight * (dp - delta[statistic]) * s.scale;
    }
    __syncthreads();
    const int count = s.Lq - first < 128 ? s.Lq - first : 128;
    for (int d = threadIdx.x; d < s.D; d += 128) {
      float gk = sum_k[d], gv = sum_v[d];
      for (int n = 0; n < count; n++) {
        const int64_t query = place(batch, s.Lq, first + n, head, s) + d;
        gk += ds[n] * load_any(q, query, s.type);
        gv += p[n] * load_any(dout, query, s.type);
      }
      sum_k[d] = gk;
      sum_v[d] = gv;
    }
    __syncthreads();
  }
  for (int d = threadIdx.x; d < s.D; d += 128) {
    if (dk) store_any(dk, at + d, s.type, sum_k[d]);
    if (dv) store_any(dv, at + d, s.type, sum_v[d]);
  }
}
EXPORT(attention_backward_key)
