// A cuBLASLt for tests: descriptors, attributes by number and size, products in float32 with the epilogues that Kinora asks
// for. What the real library refuses, or what is not asked for today, is refused. Column-major.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <vector>
#define API extern "C" __attribute__((visibility("default"))) int
enum { OK = 0, INVALID = 7, NOT_SUPPORTED = 15 };
enum { F32 = 0, F16 = 2, BF16 = 14 };
struct Desc { int compute, scale_type, pointer_mode = 0, ta = 0, tb = 0, epilogue = 1; uint64_t bias = 0; int bias_type = -1; };
struct Layout { int type; uint64_t rows, columns; int64_t leading; int batch = 1; int64_t stride = 0; };
struct Heuristic { uint64_t algorithm[8]; size_t workspace; int state; float waves; int reserved[4]; };
static_assert(sizeof(Heuristic) == 96, "as in cublasLt.h");

API cublasLtCreate(void** h) { *h = (void*)1; return OK; }
API cublasLtDestroy(void*) { return OK; }
extern "C" __attribute__((visibility("default"))) size_t cublasLtGetVersion() { return 130000; }
API cublasLtMatmulDescCreate(Desc** d, int compute, int scale) {
  if ((compute != 68 && compute != 77) || scale != F32) return NOT_SUPPORTED;
  *d = new Desc{compute, scale};
  return OK;
}
API cublasLtMatmulDescDestroy(Desc* d) { delete d; return OK; }
API cublasLtMatmulDescSetAttribute(Desc* d, int a, const void* v, size_t n) {
  auto put = [&](auto& to) { if (n != sizeof to) return (int)INVALID; memcpy(&to, v, n); return (int)OK; };
  switch (a) {
    case 2: return put(d->pointer_mode);
    case 3: return put(d->ta);
    case 4: return put(d->tb);
    case 7: return put(d->epilogue);
    case 8: return put(d->bias);
    case 26: return put(d->bias_type);
    default: return INVALID;
  }
}
API cublasLtMatrixLayoutCreate(Layout** l, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  if (type != F32 && type != BF16 && type != F16) return NOT_SUPPORTED;
  if (leading < (int64_t)rows) return INVALID;
  *l = new Layout{type, rows, columns, leading};
  return OK;
}
API cublasLtMatrixLayoutDestroy(Layout* l) { delete l; return OK; }
API cublasLtMatrixLayoutSetAttribute(Layout* l, int a, const void* v, size_t n) {
  if (a == 5 && n == 4) { memcpy(&l->batch, v, 4); return OK; }
  if (a == 6 && n == 8) { memcpy(&l->stride, v, 8); return OK; }
  return INVALID;
}
/** Alignments of A, B, C and D are 256 unless the caller knows better; an algorithm may count on them. */
struct Preference { uint64_t workspace = 0; uint32_t alignment[4] = {256, 256, 256, 256}; };
API cublasLtMatmulPreferenceCreate(Preference** p) { *p = new Preference; return OK; }
API cublasLtMatmulPreferenceSetAttribute(Preference* p, int a, const void* v, size_t n) {
  if (a == 1 && n == 8) { memcpy(&p->workspace, v, 8); return OK; }
  if (a >= 5 && a <= 8 && n == 4) { memcpy(&p->alignment[a - 5], v, 4); return OK; }
  return INVALID;
}
API cublasLtMatmulPreferenceDestroy(Preference* p) { delete p; return OK; }
/** For tests: the library has no product with an epilogue. */
static bool refuses_epilogues = false;
API emulator_refuse_epilogues(int refuse) { refuses_epilogues = refuse; return OK; }

static bool fits(Desc* d, Layout* a, Layout* b, Layout* o) {
  uint64_t m = o->rows, n = o->columns, k = d->ta ? a->rows : a->columns;
  return (d->ta ? a->columns : a->rows) == m && (d->tb ? b->columns : b->rows) == k && (d->tb ? b->rows : b->columns) == n;
}
API cublasLtMatmulAlgoGetHeuristic(void*, Desc* d, Layout* a, Layout* b, Layout*, Layout* o, Preference* p, int want, Heuristic* r, int* got) {
  *got = 0;
  if (!fits(d, a, b, o)) return INVALID;
  // The library takes operands of one format, and stores that format or float32.
  if (a->type != b->type || (o->type != a->type && o->type != F32)) return NOT_SUPPORTED;
  // A bias has the format of the result.
  if ((d->epilogue & 4) && d->bias_type >= 0 && d->bias_type != o->type) return NOT_SUPPORTED;
  if (d->epilogue != 1 && refuses_epilogues) return NOT_SUPPORTED;
  *got = want > 0;
  memset(r, 0, sizeof *r);
  for (int i = 0; i < 4; i++) r->algorithm[i] = p->alignment[i];
  return OK;
}
static float half(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 1023, u;
  if (!e) { float f = m * 5.9604644775390625e-08f; return sign ? -f : f; }
  u = sign | (e == 31 ? 0x7f800000u : (e + 112) << 23) | (m << 13);
  float f; memcpy(&f, &u, 4); return f;
}
static float get(int t, uint64_t p, int64_t i) {
  if (t == F32) return ((float*)p)[i];
  if (t == F16) return half(((uint16_t*)p)[i]);
  uint32_t u = (uint32_t)((uint16_t*)p)[i] << 16; float f; memcpy(&f, &u, 4); return f;
}
static void put(int t, uint64_t p, int64_t i, float x) {
  if (t == F32) { ((float*)p)[i] = x; return; }
  uint32_t u; memcpy(&u, &x, 4);
  ((uint16_t*)p)[i] = (u & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (u + 0x7fff + ((u >> 16) & 1)) >> 16;
}
/** A product whose turn comes on its stream: everything by value, since descriptors may be gone by then. */
struct Work { Desc desc; Layout a, b, c, o; uint64_t A, B, C, D; float alpha, beta; };
static void multiply(const Work& w) {
  const Desc* d = &w.desc; const Layout *a = &w.a, *b = &w.b, *c = &w.c, *o = &w.o;
  const uint64_t A = w.A, B = w.B, C = w.C, D = w.D; const float *alpha = &w.alpha, *beta = &w.beta;
  int64_t m = o->rows, n = o->columns, k = d->ta ? a->rows : a->columns;
  std::vector<float> x(m * k), y(n * k);
  for (int g = 0; g < o->batch; g++) {
    for (int64_t i = 0; i < m; i++) for (int64_t t = 0; t < k; t++) x[i * k + t] = get(a->type, A, g * a->stride + (d->ta ? t + i * a->leading : i + t * a->leading));
    for (int64_t j = 0; j < n; j++) for (int64_t t = 0; t < k; t++) y[j * k + t] = get(b->type, B, g * b->stride + (d->tb ? j + t * b->leading : t + j * b->leading));
    for (int64_t j = 0; j < n; j++)
      for (int64_t i = 0; i < m; i++) {
        float s = 0;
        for (int64_t t = 0; t < k; t++) s += x[i * k + t] * y[j * k + t];
        s *= *alpha;
        if (*beta != 0) s += *beta * get(c->type, C, g * c->stride + i + j * c->leading);
        if (d->epilogue & 4) s += get(d->bias_type < 0 ? o->type : d->bias_type, d->bias, i);
        if (d->epilogue & 32) s = 0.5f * s * (1 + tanhf(0.7978845608f * (s + 0.044715f * s * s * s)));
        put(o->type, D, g * o->stride + i + j * o->leading, s);
      }
  }
}
/** The driver that was built beside this library runs the streams. */
static int submit(void* stream, void (*work)(void*), void* argument) {
  static auto of_driver = (int (*)(void*, void (*)(void*), void*))dlsym(dlopen(DRIVER, RTLD_NOW), "emulator_submit");
  return of_driver(stream, work, argument);
}
API cublasLtMatmul(void*, Desc* d, const float* alpha, uint64_t A, Layout* a, uint64_t B, Layout* b, const float* beta,
                   uint64_t C, Layout* c, uint64_t D, Layout* o, const uint64_t* algorithm, void*, size_t, void* stream) {
  if (!fits(d, a, b, o)) return INVALID;
  // The real one reads wide words there, and stops the card.
  if (A % algorithm[0] || B % algorithm[1] || C % algorithm[2] || D % algorithm[3]) return INVALID;
  if ((d->epilogue & ~(1 | 4 | 32)) || ((d->epilogue & 4) && !d->bias)) return NOT_SUPPORTED;
  auto work = new Work{*d, *a, *b, *c, *o, A, B, C, D, *alpha, *beta};
  return submit(stream, [](void* p) { multiply(*(Work*)p); delete (Work*)p; }, work);
}
