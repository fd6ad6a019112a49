// Copies between windows, gathers and sums. Sums go in two steps (parts, then their sum), so that they are the same each time.
#include "device.cuh"

/** Extents of at most eight axes with the strides of both sides, in elements. */
struct Window { int64_t count; int extent[8]; int64_t from[8]; };
struct Strides { int64_t to[8]; };

template <class T> DEVICE void strided_copy(const T* from, T* to, const Window& w, const Strides& s) {
  for (int64_t i = first_element(); i < w.count; i += element_step()) {
    int64_t a, b;
    offsets<8>(i, w.extent, w.from, s.to, a, b);
    to[b] = from[a];
  }
}
KERNEL(256, 1) strided_copy_1(const uint8_t* from, uint8_t* to, Window w, Strides s) { strided_copy(from, to, w, s); }
EXPORT(strided_copy_1)
KERNEL(256, 1) strided_copy_2(const uint16_t* from, uint16_t* to, Window w, Strides s) { strided_copy(from, to, w, s); }
EXPORT(strided_copy_2)
KERNEL(256, 1) strided_copy_4(const uint32_t* from, uint32_t* to, Window w, Strides s) { strided_copy(from, to, w, s); }
EXPORT(strided_copy_4)
KERNEL(256, 1) strided_copy_8(const uint64_t* from, uint64_t* to, Window w, Strides s) { strided_copy(from, to, w, s); }
EXPORT(strided_copy_8)

/** Adds; the target's axes come first so that one thread adds all that goes to one element, in order. */
KERNEL(256, 1) strided_add(const void* from, void* to, int type, Window w, Strides s, int64_t targets) {
  const int64_t each = w.count / targets;
  for (int64_t t = first_element(); t < targets; t += element_step()) {
    float sum = 0.f;
    int64_t b = 0;
    for (int64_t j = 0; j < each; j++) {
      int64_t a;
      offsets<8>(t * each + j, w.extent, w.from, s.to, a, b);
      sum += load_any(from, a, type);
    }
    store_any(to, b, type, load_any(to, b, type) + sum);
  }
}
EXPORT(strided_add)

/** Sums of columns over chunks of rows: parts [chunks, C]; a chunk is (first row, rows, …). One thread a column. */
KERNEL(256, 1) sum_chunks(const void* a, int a_type, const void* b, int b_type, const int* chunks, float* parts, int C) {
  const int c = blockIdx.x * 256 + threadIdx.x;
  const int first = chunks[2 * blockIdx.y], rows = chunks[2 * blockIdx.y + 1];
  if (c >= C) return;
  float sum = 0.f;
  for (int r = 0; r < rows; r++) {
    int64_t i = (int64_t)(first + r) * C + c;
    sum += load_any(a, i, a_type) * (b ? load_any(b, i, b_type) : 1.f);
  }
  parts[(int64_t)blockIdx.y * C + c] = sum;
}
EXPORT(sum_chunks)

/** out[row, c] = the sum of the parts whose owner is `row`. */
KERNEL(256, 1) gather_parts(const float* parts, const int* owners, int count, void* out, int out_type, int C) {
  const int c = blockIdx.x * 256 + threadIdx.x;
  if (c >= C) return;
  double sum = 0.0;
  for (int i = 0; i < count; i++)
    if (owners[i] == (int)blockIdx.y) sum += parts[(int64_t)i * C + c];
  store_any(out, (int64_t)blockIdx.y * C + c, out_type, (float)sum);
}
EXPORT(gather_parts)

/** Rows [rows, n] summed. */
KERNEL(256, 1) sum_rows(const void* x, int x_type, void* out, int out_type, int n, int width, int64_t rows) {
  SHARED float scratch[32];
  const Row row = own_row_of(width, scratch);
  if (row.index >= rows) return;
  float part = 0.f;
  row.each_eight(n, [&](int c, int count) {
    const Eight e = load_eight(x, row.index * n + c, x_type, count);
#pragma unroll
    for (int j = 0; j < 8; j++) part += e.v[j];
  });
  const float sum = row.sum(part);
  if (row.lane == 0) store_any(out, row.index, out_type, sum);
}
EXPORT(sum_rows)
/** Axes [outer, n, inner] to [outer, parts, inner], each the sum of `chunk` neighbours. */
KERNEL(256, 1) sum_columns(const void* x, int x_type, void* out, int out_type, int64_t n, int64_t inner, int chunk, int64_t parts, int64_t results) {
  for (int64_t i = first_element(); i < results; i += element_step()) {
    const int64_t column = i % inner, part = i / inner % parts, outer = i / (inner * parts);
    const int64_t first = part * chunk, end = first + chunk < n ? first + chunk : n;
    float sum = 0.f;
    for (int64_t r = first; r < end; r++) sum += load_any(x, (outer * n + r) * inner + column, x_type);
    store_any(out, i, out_type, sum);
  }
}
EXPORT(sum_columns)

KERNEL(256, 1) square_parts(const void* x, int x_type, double* parts, int64_t n) {
  SHARED double scratch[256];
  double sum = 0.0;
  for (int64_t i = first_element(); i < n; i += element_step()) { double v = load_any(x, i, x_type); sum += v * v; }
  scratch[threadIdx.x] = sum;
  __syncthreads();
  for (int half = 128; half > 0; half >>= 1) {
    if ((int)threadIdx.x < half) scratch[threadIdx.x] += scratch[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) parts[blockIdx.x] = scratch[0];
}
EXPORT(square_parts)
KERNEL(32, 1) sum_parts(const double* parts, int count, float* out) {
  if (threadIdx.x != 0) return;
  double sum = 0.0;
  for (int i = 0; i < count; i++) sum += parts[i];
  out[0] = (float)sum;
}
EXPORT(sum_parts)

KERNEL(256, 1) embedding(const void* table, int table_type, const int* ids, void* out, int out_type, int rows, int C, int64_t n) {
  for (int64_t i = first_element(); i < n; i += element_step()) {
    int id = ids[i / C];
    float v = id >= 0 && id < rows ? load_any(table, (int64_t)id * C + i % C, table_type) : bits_float(0x7fc00000u);
    store_any(out, i, out_type, v);
  }
}
EXPORT(embedding)
/** One thread an element of the table: it looks through all ids, in order. */
KERNEL(256, 1) embedding_backward(const int* ids, int count, const void* dy, int dy_type, void* dtable, int dtable_type, int C, int64_t n) {
  for (int64_t i = first_element(); i < n; i += element_step()) {
    int row = (int)(i / C);
    float sum = 0.f;
    for (int j = 0; j < count; j++)
      if (ids[j] == row) sum += load_any(dy, (int64_t)j * C + i % C, dy_type);
    store_any(dtable, i, dtable_type, sum);
  }
}
EXPORT(embedding_backward)
