// Attention. The flash forward on tensor cores for bf16 and head sizes 64 and 128; exact kernels in float32 for every other
// format and size, for biases, and for gradients. q, k, v, out [B, L, H, D].
#include "device.cuh"

/** Tiles of 64 rows are stored with their 16-byte chunks swapped by row, so that matrix loads meet no bank twice. */
template <int D> DEVICE bf16* cell(unsigned char* tile, int row, int chunk) {
  return (bf16*)(tile + row * D * 2 + ((chunk ^ (row & 7)) << 4));
}
template <int D> DEVICE void load_tile(unsigned char* tile, const bf16* from, int64_t stride, int first, int rows) {
  constexpr int chunks = D / 8;
  for (int i = threadIdx.x; i < 64 * chunks; i += 128) {
    int row = i / chunks, chunk = i % chunks;
    bool valid = first + row < rows;
    copy_async(cell<D>(tile, row, chunk), from + (valid ? (first + row) * stride + chunk * 8 : 0), valid);
  }
}

/** 4 warps, 64 queries a block; keys in tiles of 64, two stages (Dao, arXiv 2307.08691). */
template <int D>
DEVICE void flash_forward(const bf16* q, const bf16* k, const bf16* v, bf16* out, float* lse, const int* key_lengths,
                          int heads, int Lq, int Lk, float scale) {
  DYNAMIC_SHARED(tiles_of_block);
  constexpr int tile = 64 * D * 2;
  unsigned char *sq = tiles_of_block, *sk = sq + tile, *sv = sq + 3 * tile;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int batch = blockIdx.z, head = blockIdx.y, q0 = blockIdx.x * 64;
  const int64_t stride = (int64_t)heads * D;
  q += ((int64_t)batch * Lq * heads + head) * D;
  out += ((int64_t)batch * Lq * heads + head) * D;
  k += ((int64_t)batch * Lk * heads + head) * D;
  v += ((int64_t)batch * Lk * heads + head) * D;
  const int keys = key_lengths ? key_lengths[batch] : Lk;
  const int tiles = (keys + 63) / 64;

  load_tile<D>(sq, q, stride, q0, Lq);
  load_tile<D>(sk, k, stride, 0, keys);
  copy_commit();
  load_tile<D>(sv, v, stride, 0, keys);
  copy_commit();
  copy_wait<1>();
  __syncthreads();
  uint32_t qa[D / 16][4];
#pragma unroll
  for (int c = 0; c < D / 16; c++) load_matrices(qa[c], cell<D>(sq, warp * 16 + (lane & 15), c * 2 + (lane >> 4)));

  float o[D / 8][4] = {}, high[2] = {-1e30f, -1e30f}, total[2] = {0.f, 0.f};
  const float factor = scale * LOG2E;
  for (int t = 0; t < tiles; t++) {
    const int now = t & 1;
    unsigned char *kt = sk + now * tile, *vt = sv + now * tile;
    if (t + 1 < tiles) load_tile<D>(sk + (now ^ 1) * tile, k, stride, (t + 1) * 64, keys);
    copy_commit();
    if (t > 0) { copy_wait<2>(); __syncthreads(); }
    float s[8][4] = {};
#pragma unroll
    for (int c = 0; c < D / 16; c++)
#pragma unroll
      for (int n = 0; n < 4; n++) {
        uint32_t b[4];
        load_matrices(b, cell<D>(kt, n * 16 + (lane & 7) + ((lane >> 4) << 3), c * 2 + ((lane >> 3) & 1)));
        mma_16x8x16(s[n * 2], qa[c], b[0], b[1]);
        mma_16x8x16(s[n * 2 + 1], qa[c], b[2], b[3]);
      }
    if (t + 1 < tiles) load_tile<D>(sv + (now ^ 1) * tile, v, stride, (t + 1) * 64, keys);
    copy_commit();
    const int left = keys - t * 64;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float top = high[r];
#pragma unroll
      for (int n = 0; n < 8; n++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
          float& x = s[n][r * 2 + i];
          x = n * 8 + (lane & 3) * 2 + i < left ? x * factor : -1e30f;
          top = fmaxf(top, x);
        }
      top = fmaxf(top, shuffle_xor(top, 1));
      top = fmaxf(top, shuffle_xor(top, 2));
      const float shrink = exp2_fast(high[r] - top);
      high[r] = top;
      float sum = 0.f;
#pragma unroll
      for (int n = 0; n < 8; n++)
#pragma unroll
        for (int i = 0; i < 2; i++) { float& x = s[n][r * 2 + i]; x = exp2_fast(x - top); sum += x; }
      total[r] = total[r] * shrink + sum;
#pragma unroll
      for (int n = 0; n < D / 8; n++) { o[n][r * 2] *= shrink; o[n][r * 2 + 1] *= shrink; }
    }
    copy_wait<2>();
    __syncthreads();
#pragma unroll
    for (int c = 0; c < 4; c++) {
      uint32_t p[4] = {pack_bf16(s[2 * c][0], s[2 * c][1]), pack_bf16(s[2 * c][2], s[2 * c][3]),
                       pack_bf16(s[2 * c + 1][0], s[2 * c + 1][1]), pack_bf16(s[2 * c + 1][2], s[2 * c + 1][3])};
#pragma unroll
      for (int n = 0; n < D / 16; n++) {
        uint32_t b[4];
        load_matrices_transposed(b, cell<D>(vt, c * 16 + (lane & 15), n * 2 + (lane >> 4)));
        mma_16x8x16(o[n * 2], p, b[0], b[1]);
        mma_16x8x16(o[n * 2 + 1], p, b[2], b[3]);
      }
    }
    __syncthreads();
  }
  copy_wait<0>();
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float sum = total[r] + shuffle_xor(total[r], 1);
    sum += shuffle_xor(sum, 2);
    const int row = q0 + warp * 16 + lane / 4 + r * 8;
    // Without keys: zeros, and minus infinity.
    const float inverse = keys > 0 ? 1.f / sum : 0.f;
    if (row < Lq) {
#pragma unroll
      for (int n = 0; n < D / 8; n++)
        *(uint32_t*)(out + row * stride + n * 8 + (lane & 3) * 2) = pack_bf16(o[n][r * 2] * inverse, o[n][r * 2 + 1] * inverse);
      if (lse && (lane & 3) == 0)
        lse[((int64_t)batch * heads + head) * Lq + row] = keys > 0 ? (high[r] + log2f(sum)) * LN2 : -bits_float(0x7f800000u);
    }
  }
}
KERNEL(128, 2) flash_forward_128(const bf16* q, const bf16* k, const bf16* v, bf16* out, float* lse, const int* key_lengths, int heads, int Lq, int Lk, float scale) {
  flash_forward<128>(q, k, v, out, lse, key_lengths, heads, Lq, Lk, scale);
}
EXPORT(flash_forward_128)
KERNEL(128, 2) flash_forward_64(const bf16* q, const bf16* k, const bf16* v, bf16* out, float* lse, const int* key_lengths, int heads, int Lq, int Lk, float scale) {
  flash_forward<64>(q, k, v, out, lse, key_lengths, heads, Lq, Lk, scale);
}
EXPORT(flash_forward_64)

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
  float high = -bits_float(0x7f800000u), total = 0.f;
  for (int first = 0; first < keys; first += 128) {
    const int j = first + threadIdx.x;
    float x = j < keys ? score(row, k, place(batch, s.Lk, j, head, s), bias, i, j, head, s) : -bits_float(0x7f800000u);
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
  if (lse && threadIdx.x == 0) lse[((int64_t)batch * s.heads + head) * s.Lq + i] = keys > 0 ? high + logf(total) : -bits_float(0x7f800000u);
}
EXPORT(attention_exact)

/** Σ out·dout of each query and head: what all its keys share. One warp a row. */
KERNEL(128, 1) attention_delta(const void* out, const void* dout, float* delta, Sizes s, int64_t rows) {
  const int64_t row = (int64_t)blockIdx.x * 4 + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  float sum = 0.f;
  if (row < rows)
    for (int d = lane; d < s.D; d += 32) sum += load_any(out, row * s.D + d, s.type) * load_any(dout, row * s.D + d, s.type);
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) sum += shuffle_xor(sum, mask);
  if (row < rows && lane == 0) {
    // Rows are [B, Lq, H]; delta is [B, H, Lq] as log-sum-exp is.
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
