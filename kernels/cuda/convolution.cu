// Convolutions, channels last, as matrix products: rows of neighbours are unfolded, forward from the input for each output
// position, backward from the output for each input position. Nothing is scattered, so results are the same each time.
#include "device.cuh"

struct Shape {
  int T, H, W, Ci;        // input
  int To, Ho, Wo, Co;     // output
  int kt, kh, kw;         // kernel
  int st, sh, sw;         // stride
  int pt, ph, pw;         // zeros in front
};

/** Where a position finds a tap's value along one axis; -1 where it finds none. */
template <bool BACK> DEVICE int neighbour(int at, int tap, int stride, int front, int length) {
  if (!BACK) {
    const int i = at * stride + tap - front;
    return i >= 0 && i < length ? i : -1;
  }
  const int o = at + front - tap;
  return o >= 0 && o % stride == 0 && o / stride < length ? o / stride : -1;
}

/** columns [rows, kt, kh, kw, C] of positions first … first + rows; `from` is the input, or, backward, the output. */
template <bool BACK>
DEVICE void unfold_rows(const void* from, int from_type, void* columns, int type, const Shape& s, int64_t first, int64_t rows) {
  const int C = BACK ? s.Co : s.Ci, per_tap = (C + 7) / 8;
  const int64_t total = rows * s.kt * s.kh * s.kw * per_tap;
  for (int64_t i = first_element(); i < total; i += element_step()) {
    const int c = (int)(i % per_tap) * 8, count = C - c < 8 ? C - c : 8;
    const int64_t cell = i / per_tap;
    int64_t rest = cell;
    const int w = (int)(rest % s.kw); rest /= s.kw;
    const int h = (int)(rest % s.kh); rest /= s.kh;
    const int t = (int)(rest % s.kt); rest /= s.kt;
    int64_t at = first + rest;
    const int W = BACK ? s.W : s.Wo, H = BACK ? s.H : s.Ho, T = BACK ? s.T : s.To;
    const int wi = neighbour<BACK>((int)(at % W), w, s.sw, s.pw, BACK ? s.Wo : s.W); at /= W;
    const int hi = neighbour<BACK>((int)(at % H), h, s.sh, s.ph, BACK ? s.Ho : s.H); at /= H;
    const int ti = neighbour<BACK>((int)(at % T), t, s.st, s.pt, BACK ? s.To : s.T); at /= T;
    Eight e = {};
    if (wi >= 0 && hi >= 0 && ti >= 0) {
      const int64_t place = BACK ? ((at * s.To + ti) * s.Ho + hi) * s.Wo + wi : ((at * s.T + ti) * s.H + hi) * s.W + wi;
      e = load_eight(from, place * C + c, from_type, count);
    }
    store_eight(columns, cell * C + c, type, e, count);
  }
}
KERNEL(256, 1) unfold(const void* x, int x_type, void* columns, int type, Shape s, int64_t first, int64_t rows) {
  unfold_rows<false>(x, x_type, columns, type, s, first, rows);
}
EXPORT(unfold)
KERNEL(256, 1) unfold_back(const void* dy, int dy_type, void* columns, int type, Shape s, int64_t first, int64_t rows) {
  unfold_rows<true>(dy, dy_type, columns, type, s, first, rows);
}
EXPORT(unfold_back)
