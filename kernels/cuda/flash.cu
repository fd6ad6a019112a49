// Flash attention on tensor cores, forward and backward, bf16, head sizes 64 and 128 (Dao, arXiv 2307.08691). 4 warps a block,
// 16 rows each; what is summed over passes through shared memory in two stages. No sum depends on the order of blocks: the
// backward pass works out the weights twice, once for blocks of keys and once for blocks of queries. q, k, v, out [B, L, H, D].
#include "device.cuh"

/** Rows are stored with their 16-byte chunks swapped by row, so that matrix loads meet no bank twice. */
template <int D> DEVICE bf16* cell(unsigned char* tile, int row, int chunk) {
  return (bf16*)(tile + row * D * 2 + ((chunk ^ (row & 7)) << 4));
}
/** Rows `first` … of a head; zeros from row `rows` on. */
template <int D, int ROWS> DEVICE void load_tile(unsigned char* tile, const bf16* from, int64_t stride, int first, int rows) {
  constexpr int chunks = D / 8;
  for (int i = threadIdx.x; i < ROWS * chunks; i += 128) {
    const int row = i / chunks, chunk = i % chunks;
    const bool valid = first + row < rows;
    copy_async(cell<D>(tile, row, chunk), from + (valid ? (first + row) * stride + chunk * 8 : 0), valid);
  }
}
/** The warp's 16 rows of a tile, columns 16·c …: the left factor of a product. */
template <int D> DEVICE void load_rows(uint32_t (&a)[4], unsigned char* tile, int c) {
  const int lane = threadIdx.x % 32;
  load_matrices(a, cell<D>(tile, threadIdx.x / 32 * 16 + (lane & 15), c * 2 + (lane >> 4)));
}
/** s[16, 8·N] += a·tileᵀ over columns 16·c …; the tile has 8·N rows. */
template <int D, int N> DEVICE void add_scores(float (&s)[N][4], const uint32_t (&a)[4], unsigned char* tile, int c) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < N / 2; n++) {
    uint32_t b[4];
    load_matrices(b, cell<D>(tile, n * 16 + (lane & 7) + ((lane >> 4) << 3), c * 2 + ((lane >> 3) & 1)));
    mma_16x8x16(s[n * 2], a, b[0], b[1]);
    mma_16x8x16(s[n * 2 + 1], a, b[2], b[3]);
  }
}
/** o[16, D] += a·tile over the tile's rows 16·c …. */
template <int D> DEVICE void add_rows(float (&o)[D / 8][4], const uint32_t (&a)[4], unsigned char* tile, int c) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < D / 16; n++) {
    uint32_t b[4];
    load_matrices_transposed(b, cell<D>(tile, c * 16 + (lane & 15), n * 2 + (lane >> 4)));
    mma_16x8x16(o[n * 2], a, b[0], b[1]);
    mma_16x8x16(o[n * 2 + 1], a, b[2], b[3]);
  }
}
/** Columns 16·c … of a product's result as the left factor of the next. */
template <int N> DEVICE void pack_rows(uint32_t (&a)[4], const float (&s)[N][4], int c) {
  a[0] = pack_bf16(s[2 * c][0], s[2 * c][1]);
  a[1] = pack_bf16(s[2 * c][2], s[2 * c][3]);
  a[2] = pack_bf16(s[2 * c + 1][0], s[2 * c + 1][1]);
  a[3] = pack_bf16(s[2 * c + 1][2], s[2 * c + 1][3]);
}
/** The thread's row of a warp's result, 0 or 1 of them. */
DEVICE int own_row(int r) { return threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + r * 8; }
/** The thread's column of a result, in a group of 8. */
DEVICE int own_column(int i) { return (threadIdx.x & 3) * 2 + i; }

template <int D> DEVICE void store_row(bf16* to, const float (&o)[D / 8][4], int r, float factor) {
#pragma unroll
  for (int n = 0; n < D / 8; n++)
    *(uint32_t*)(to + n * 8 + own_column(0)) = pack_bf16(o[n][r * 2] * factor, o[n][r * 2 + 1] * factor);
}

/** 64 queries a block; keys in tiles of 64. `bias` [H, Lq, Lk] is added to the scores. */
template <int D, bool BIAS>
DEVICE void flash_forward(const bf16* q, const bf16* k, const bf16* v, bf16* out, float* lse, const int* key_lengths,
                          const float* bias, int heads, int Lq, int Lk, float scale) {
  DYNAMIC_SHARED(memory);
  constexpr int tile = 64 * D * 2;
  unsigned char *sq = memory, *sk = sq + tile, *sv = sk + 2 * tile;
  const int batch = blockIdx.z, head = blockIdx.y, q0 = blockIdx.x * 64;
  const int64_t stride = (int64_t)heads * D;
  q += ((int64_t)batch * Lq * heads + head) * D;
  out += ((int64_t)batch * Lq * heads + head) * D;
  k += ((int64_t)batch * Lk * heads + head) * D;
  v += ((int64_t)batch * Lk * heads + head) * D;
  const int keys = key_lengths ? key_lengths[batch] : Lk;
  const int tiles = (keys + 63) / 64;

  load_tile<D, 64>(sq, q, stride, q0, Lq);
  load_tile<D, 64>(sk, k, stride, 0, keys);
  copy_commit();
  load_tile<D, 64>(sv, v, stride, 0, keys);
  copy_commit();
  copy_wait<1>();
  __syncthreads();
  uint32_t qa[D / 16][4];
#pragma unroll
  for (int c = 0; c < D / 16; c++) load_rows<D>(qa[c], sq, c);

  float o[D / 8][4] = {}, high[2] = {-1e30f, -1e30f}, total[2] = {0.f, 0.f};
  const float factor = scale * LOG2E;
  for (int t = 0; t < tiles; t++) {
    const int now = t & 1;
    unsigned char *kt = sk + now * tile, *vt = sv + now * tile;
    if (t + 1 < tiles) load_tile<D, 64>(sk + (now ^ 1) * tile, k, stride, (t + 1) * 64, keys);
    copy_commit();
    if (t > 0) { copy_wait<2>(); __syncthreads(); }
    float s[8][4] = {};
#pragma unroll
    for (int c = 0; c < D / 16; c++) add_scores<D>(s, qa[c], kt, c);
    if (t + 1 < tiles) load_tile<D, 64>(sv + (now ^ 1) * tile, v, stride, (t + 1) * 64, keys);
    copy_commit();
    const int left = keys - t * 64;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      // Queries beyond the last read the last one's biases, and are not stored.
      const int row = q0 + own_row(r) < Lq ? q0 + own_row(r) : Lq - 1;
      const float* biases = BIAS ? bias + ((int64_t)head * Lq + row) * Lk + t * 64 : nullptr;
      float top = high[r];
#pragma unroll
      for (int n = 0; n < 8; n++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
          float& x = s[n][r * 2 + i];
          const int column = n * 8 + own_column(i);
          if (column >= left) x = -1e30f;
          else x = BIAS ? x * factor + biases[column] * LOG2E : x * factor;
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
      uint32_t p[4];
      pack_rows(p, s, c);
      add_rows<D>(o, p, vt, c);
    }
    // No barrier here: keys of this tile were read before the last one, and values are written over behind the next.
  }
  copy_wait<0>();
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float sum = total[r] + shuffle_xor(total[r], 1);
    sum += shuffle_xor(sum, 2);
    const int row = q0 + own_row(r);
    if (row >= Lq) continue;
    // Without keys: zeros, and minus infinity.
    store_row<D>(out + row * stride, o, r, keys > 0 ? 1.f / sum : 0.f);
    if (lse && (threadIdx.x & 3) == 0)
      lse[((int64_t)batch * heads + head) * Lq + row] = keys > 0 ? (high[r] + log2f(sum)) * LN2 : -INFINITE;
  }
}
KERNEL(128, 2) flash_forward_64(const bf16* q, const bf16* k, const bf16* v, bf16* out, float* lse, const int* key_lengths, const float* bias, int heads, int Lq, int Lk, float scale) {
  flash_forward<64, false>(q, k, v, out, lse, key_lengths, bias, heads, Lq, Lk, scale);
}
EXPORT(flash_forward_64)
KERNEL(128, 2) flash_forward_128(const bf16* q, const bf16* k, const bf16* v, bf16* out, float* lse, const int* key_lengths, const float* bias, int heads, int Lq, int Lk, float scale) {
  flash_forward<128, false>(q, k, v, out, lse, key_lengths, bias, heads, Lq, Lk, scale);
}
EXPORT(flash_forward_128)
KERNEL(128, 2) flash_forward_bias_64(const bf16* q, const bf16* k, const bf16* v, bf16* out, float* lse, const int* key_lengths, const float* bias, int heads, int Lq, int Lk, float scale) {
  flash_forward<64, true>(q, k, v, out, lse, key_lengths, bias, heads, Lq, Lk, scale);
}
EXPORT(flash_forward_bias_64)
KERNEL(128, 2) flash_forward_bias_128(const bf16* q, const bf16* k, const bf16* v, bf16* out, float* lse, const int* key_lengths, const float* bias, int heads, int Lq, int Lk, float scale) {
  flash_forward<128, true>(q, k, v, out, lse, key_lengths, bias, heads, Lq, Lk, scale);
}
EXPORT(flash_forward_bias_128)

/** Σ out·dout of each query and head, [B, Lq, H] rows to delta [B, H, Lq]. 16 bytes a thread; D/8 threads a row. */
template <int D> DEVICE void flash_delta(const bf16* out, const bf16* dout, float* delta, int heads, int Lq, int64_t rows) {
  constexpr int threads = D / 8;
  const int64_t row = ((int64_t)blockIdx.x * 128 + threadIdx.x) / threads;
  const int part = threadIdx.x % threads;
  float sum = 0.f;
  if (row < rows) {
    const Chunk a = ((const Chunk*)(out + row * D))[part], b = ((const Chunk*)(dout + row * D))[part];
#pragma unroll
    for (int i = 0; i < 4; i++)
      sum += bits_float(a.w[i] << 16) * bits_float(b.w[i] << 16) + bits_float(a.w[i] & 0xffff0000u) * bits_float(b.w[i] & 0xffff0000u);
  }
#pragma unroll
  for (int mask = threads / 2; mask > 0; mask >>= 1) sum += shuffle_xor(sum, mask);
  if (row < rows && part == 0) {
    const int64_t head = row % heads, token = row / heads;
    delta[((token / Lq) * heads + head) * Lq + token % Lq] = sum;
  }
}
KERNEL(128, 1) flash_delta_64(const bf16* out, const bf16* dout, float* delta, int heads, int Lq, int64_t rows) { flash_delta<64>(out, dout, delta, heads, Lq, rows); }
EXPORT(flash_delta_64)
KERNEL(128, 1) flash_delta_128(const bf16* out, const bf16* dout, float* delta, int heads, int Lq, int64_t rows) { flash_delta<128>(out, dout, delta, heads, Lq, rows); }
EXPORT(flash_delta_128)

/** What both halves of the backward pass are given. */
struct Backward {
  const bf16 *q, *k, *v, *dout;
  const float *lse, *delta;
  const int* key_lengths;
  int heads, Lq, Lk;
  float scale;
};

/** dk and dv of 64 keys a block: scores stand on their side, keys down, queries in tiles of 32. */
template <int D> DEVICE void flash_backward_key(const Backward& g, bf16* dk, bf16* dv) {
  DYNAMIC_SHARED(memory);
  constexpr int key_tile = 64 * D * 2, tile = 32 * D * 2;
  unsigned char *sk = memory, *sv = sk + key_tile, *sq = sv + key_tile, *sd = sq + 2 * tile;
  // Of each stage: 32 log-sum-exps in powers of two, 32 deltas.
  float* statistics = (float*)(sd + 2 * tile);
  const int batch = blockIdx.z, head = blockIdx.y, k0 = blockIdx.x * 64;
  const int64_t stride = (int64_t)g.heads * D;
  const int64_t queries = ((int64_t)batch * g.Lq * g.heads + head) * D, own = ((int64_t)batch * g.Lk * g.heads + head) * D;
  const int64_t row_statistics = ((int64_t)batch * g.heads + head) * g.Lq;
  const int keys = g.key_lengths ? g.key_lengths[batch] : g.Lk;
  const int tiles = k0 < keys ? (g.Lq + 31) / 32 : 0;
  auto load_stage = [&](int t) {
    load_tile<D, 32>(sq + (t & 1) * tile, g.q + queries, stride, t * 32, g.Lq);
    load_tile<D, 32>(sd + (t & 1) * tile, g.dout + queries, stride, t * 32, g.Lq);
    if (threadIdx.x < 64) {
      const int row = t * 32 + threadIdx.x % 32;
      // A query that is none has no weight on any key.
      float x = threadIdx.x < 32 ? INFINITE : 0.f;
      if (row < g.Lq) x = threadIdx.x < 32 ? g.lse[row_statistics + row] * LOG2E : g.delta[row_statistics + row];
      statistics[(t & 1) * 64 + threadIdx.x] = x;
    }
  };
  if (tiles > 0) {
    load_tile<D, 64>(sk, g.k + own, stride, k0, keys);
    load_tile<D, 64>(sv, g.v + own, stride, k0, keys);
    load_stage(0);
  }
  copy_commit();
  float gk[D / 8][4] = {}, gv[D / 8][4] = {};
  const float factor = g.scale * LOG2E;
  for (int t = 0; t < tiles; t++) {
    if (t + 1 < tiles) load_stage(t + 1);
    copy_commit();
    copy_wait<1>();
    __syncthreads();
    unsigned char *qt = sq + (t & 1) * tile, *dt = sd + (t & 1) * tile;
    const float* now = statistics + (t & 1) * 64;
    float p[4][4] = {}, d[4][4] = {};
#pragma unroll
    for (int c = 0; c < D / 16; c++) {
      uint32_t a[4];
      load_rows<D>(a, sk, c);
      add_scores<D>(p, a, qt, c);
      load_rows<D>(a, sv, c);
      add_scores<D>(d, a, dt, c);
    }
#pragma unroll
    for (int n = 0; n < 4; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int query = n * 8 + own_column(i & 1);
        const float weight = exp2_fast(p[n][i] * factor - now[query]);
        p[n][i] = weight;
        d[n][i] = weight * (d[n][i] - now[32 + query]);
      }
#pragma unroll
    for (int c = 0; c < 2; c++) {
      uint32_t a[4];
      pack_rows(a, p, c);
      add_rows<D>(gv, a, dt, c);
      pack_rows(a, d, c);
      add_rows<D>(gk, a, qt, c);
    }
    __syncthreads();
  }
  copy_wait<0>();
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int row = k0 + own_row(r);
    if (row >= g.Lk) continue;
    // Keys beyond the length took no part; what their rows hold is no number of theirs.
    const bool taken = row < keys;
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
      const int64_t at = own + row * stride + n * 8 + own_column(0);
      if (dk) *(uint32_t*)(dk + at) = taken ? pack_bf16(gk[n][r * 2] * g.scale, gk[n][r * 2 + 1] * g.scale) : 0;
      if (dv) *(uint32_t*)(dv + at) = taken ? pack_bf16(gv[n][r * 2], gv[n][r * 2 + 1]) : 0;
    }
  }
}
KERNEL(128, 2) flash_backward_key_64(Backward g, bf16* dk, bf16* dv) { flash_backward_key<64>(g, dk, dv); }
EXPORT(flash_backward_key_64)
KERNEL(128, 2) flash_backward_key_128(Backward g, bf16* dk, bf16* dv) { flash_backward_key<128>(g, dk, dv); }
EXPORT(flash_backward_key_128)

/** dq of 64 queries a block; keys in tiles of 32. */
template <int D> DEVICE void flash_backward_query(const Backward& g, bf16* dq) {
  DYNAMIC_SHARED(memory);
  constexpr int query_tile = 64 * D * 2, tile = 32 * D * 2;
  unsigned char *sq = memory, *sd = sq + query_tile, *sk = sd + query_tile, *sv = sk + 2 * tile;
  const int batch = blockIdx.z, head = blockIdx.y, q0 = blockIdx.x * 64;
  const int64_t stride = (int64_t)g.heads * D;
  const int64_t own = ((int64_t)batch * g.Lq * g.heads + head) * D, others = ((int64_t)batch * g.Lk * g.heads + head) * D;
  const int keys = g.key_lengths ? g.key_lengths[batch] : g.Lk;
  const int tiles = (keys + 31) / 32;
  auto load_stage = [&](int t) {
    load_tile<D, 32>(sk + (t & 1) * tile, g.k + others, stride, t * 32, keys);
    load_tile<D, 32>(sv + (t & 1) * tile, g.v + others, stride, t * 32, keys);
  };
  load_tile<D, 64>(sq, g.q + own, stride, q0, g.Lq);
  load_tile<D, 64>(sd, g.dout + own, stride, q0, g.Lq);
  if (tiles > 0) load_stage(0);
  copy_commit();
  float lse[2], delta[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int row = q0 + own_row(r);
    const int64_t at = ((int64_t)batch * g.heads + head) * g.Lq + row;
    lse[r] = row < g.Lq ? g.lse[at] * LOG2E : INFINITE;
    delta[r] = row < g.Lq ? g.delta[at] : 0.f;
  }
  float gq[D / 8][4] = {};
  const float factor = g.scale * LOG2E;
  for (int t = 0; t < tiles; t++) {
    if (t + 1 < tiles) load_stage(t + 1);
    copy_commit();
    copy_wait<1>();
    __syncthreads();
    unsigned char *kt = sk + (t & 1) * tile, *vt = sv + (t & 1) * tile;
    float s[4][4] = {}, d[4][4] = {};
#pragma unroll
    for (int c = 0; c < D / 16; c++) {
      uint32_t a[4];
      load_rows<D>(a, sq, c);
      add_scores<D>(s, a, kt, c);
      load_rows<D>(a, sd, c);
      add_scores<D>(d, a, vt, c);
    }
    const int left = keys - t * 32;
#pragma unroll
    for (int n = 0; n < 4; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float weight = n * 8 + own_column(i & 1) < left ? exp2_fast(s[n][i] * factor - lse[i >> 1]) : 0.f;
        d[n][i] = weight * (d[n][i] - delta[i >> 1]);
      }
#pragma unroll
    for (int c = 0; c < 2; c++) {
      uint32_t a[4];
      pack_rows(a, d, c);
      add_rows<D>(gq, a, kt, c);
    }
    __syncthreads();
  }
  copy_wait<0>();
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int row = q0 + own_row(r);
    if (row < g.Lq) store_row<D>(dq + own + row * stride, gq, r, g.scale);
  }
}
KERNEL(128, 2) flash_backward_query_64(Backward g, bf16* dq) { flash_backward_query<64>(g, dq); }
EXPORT(flash_backward_query_64)
KERNEL(128, 2) flash_backward_query_128(Backward g, bf16* dq) { flash_backward_query<128>(g, dq); }
EXPORT(flash_backward_query_128)
