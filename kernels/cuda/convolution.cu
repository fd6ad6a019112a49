// Convolutions, channels last. The forward pass unfolds rows of the input for a matrix product on tensor cores; gradients
// gather what belongs to each element, in order, so that they are the same each time.
#include "device.cuh"

struct Shape {
  int T, H, W, Ci;        // input
  int To, Ho, Wo, Co;     // output
  int kt, kh, kw;         // kernel
  int st, sh, sw;         // stride
  int pt, ph, pw;         // zeros in front
};

/** columns [rows, kt, kh, kw, Ci] of output positions first … first + rows. */
KERNEL(256, 1) unfold(const void* x, int x_type, void* columns, int type, Shape s, int64_t first, int64_t n) {
  for (int64_t i = first_element(); i < n; i += element_step()) {
    int64_t rest = i;
    const int c = (int)(rest % s.Ci); rest /= s.Ci;
    const int w = (int)(rest % s.kw); rest /= s.kw;
    const int h = (int)(rest % s.kh); rest /= s.kh;
    const int t = (int)(rest % s.kt); rest /= s.kt;
    int64_t at = first + rest;
    const int wo = (int)(at % s.Wo); at /= s.Wo;
    const int ho = (int)(at % s.Ho); at /= s.Ho;
    const int to = (int)(at % s.To); at /= s.To;
    const int ti = to * s.st + t - s.pt, hi = ho * s.sh + h - s.ph, wi = wo * s.sw + w - s.pw;
    const bool inside = ti >= 0 && ti < s.T && hi >= 0 && hi < s.H && wi >= 0 && wi < s.W;
    store_any(columns, i, type, inside ? load_any(x, (((at * s.T + ti) * s.H + hi) * s.W + wi) * s.Ci + c, x_type) : 0.f);
  }
}
EXPORT(unfold)

/** dx of each input element: all outputs that its value went into. */
KERNEL(256, 1) convolution_backward_data(const void* dy, int dy_type, const void* weight, int weight_type, void* dx, int dx_type, Shape s, int64_t n) {
  for (int64_t i = first_element(); i < n; i += element_step()) {
    int64_t rest = i;
    const int c = (int)(rest % s.Ci); rest /= s.Ci;
    const int wi = (int)(rest % s.W); rest /= s.W;
    const int hi = (int)(rest % s.H); rest /= s.H;
    const int ti = (int)(rest % s.T); rest /= s.T;
    float sum = 0.f;
    for (int t = 0; t < s.kt; t++) {
      const int to = ti + s.pt - t;
      if (to < 0 || to % s.st || to / s.st >= s.To) continue;
      for (int h = 0; h < s.kh; h++) {
        const int ho = hi + s.ph - h;
        if (ho < 0 || ho % s.sh || ho / s.sh >= s.Ho) continue;
        for (int w = 0; w < s.kw; w++) {
          const int wo = wi + s.pw - w;
          if (wo < 0 || wo % s.sw || wo / s.sw >= s.Wo) continue;
          const int64_t out = (((rest * s.To + to / s.st) * s.Ho + ho / s.sh) * s.Wo + wo / s.sw) * s.Co;
          const int64_t tap = ((int64_t)t * s.kh + h) * s.kw + w, taps = (int64_t)s.kt * s.kh * s.kw;
          for (int o = 0; o < s.Co; o++)
            sum += load_any(dy, out + o, dy_type) * load_any(weight, ((int64_t)o * s.Ci + c) * taps + tap, weight_type);
        }
      }
    }
    store_any(dx, i, dx_type, sum);
  }
}
EXPORT(convolution_backward_data)

/** dweight [Co, Ci, kt, kh, kw]: one block an element, over all output positions of the batch. */
KERNEL(256, 1) convolution_backward_weights(const void* x, int x_type, const void* dy, int dy_type, void* dweight, int dweight_type, Shape s, int64_t positions) {
  SHARED float scratch[32];
  int64_t rest = blockIdx.x;
  const int w = (int)(rest % s.kw); rest /= s.kw;
  const int h = (int)(rest % s.kh); rest /= s.kh;
  const int t = (int)(rest % s.kt); rest /= s.kt;
  const int c = (int)(rest % s.Ci), o = (int)(rest / s.Ci);
  float sum = 0.f;
  for (int64_t p = threadIdx.x; p < positions; p += 256) {
    int64_t at = p;
    const int wo = (int)(at % s.Wo); at /= s.Wo;
    const int ho = (int)(at % s.Ho); at /= s.Ho;
    const int to = (int)(at % s.To); at /= s.To;
    const int ti = to * s.st + t - s.pt, hi = ho * s.sh + h - s.ph, wi = wo * s.sw + w - s.pw;
    if (ti < 0 || ti >= s.T || hi < 0 || hi >= s.H || wi < 0 || wi >= s.W) continue;
    sum += load_any(x, (((at * s.T + ti) * s.H + hi) * s.W + wi) * s.Ci + c, x_type) * load_any(dy, p * s.Co + o, dy_type);
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) store_any(dweight, blockIdx.x, dweight_type, sum);
}
EXPORT(convolution_backward_weights)
