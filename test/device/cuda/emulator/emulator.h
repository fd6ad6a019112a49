// CUDA's execution model on a CPU, for tests: a fiber a thread, one block at a time on each OS thread. Warps meet for
// shuffles and tensor-core operations; asynchronous copies land only when they are waited for; shared memory begins as NaN.
#pragma once
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>
#define DEVICE inline
#define DEVICE_CALLED inline
#define SHARED static thread_local
#define EMULATOR_JOIN(a, b) a##b
#define EMULATOR_UNIQUE(line) EMULATOR_JOIN(emulator_bound_, line)
#define KERNEL(threads, blocks) static emulator::Bound EMULATOR_UNIQUE(__LINE__){threads}; extern "C" void
#define DYNAMIC_SHARED(name) unsigned char* name = emulator::now->block->shared
#define EXPORT(name) static emulator::Export export_##name{#name, emulator::Invoke<&name>::run, emulator::Invoke<&name>::keep};

namespace emulator {
struct Dim { unsigned x, y, z; };
struct Pending { void* to; const void* from; bool valid; };
struct Warp { int arrived = 0, size = 32; unsigned generation = 0; const void* slot[32][3]; };
struct Block { Dim index, dim, grid; unsigned char* shared; int arrived, live; unsigned generation; };
struct Fiber {
  void* sp; Block* block; Warp* warp; int lane; bool done; Dim thread;
  std::vector<std::vector<Pending>> groups; std::vector<Pending> open;
};
extern thread_local Fiber* now;
extern thread_local void* scheduler_sp;
extern "C" void emulator_switch(void** save, void* to);
inline void yield() { emulator_switch(&now->sp, scheduler_sp); }
[[noreturn]] inline void fail(const char* what) { fprintf(stderr, "emulator: %s\n", what); abort(); }
inline void barrier() {
  Block* b = now->block;
  unsigned g = b->generation;
  if (++b->arrived == b->live) { b->arrived = 0; b->generation++; return; }
  while (b->generation == g) yield();
}
/** All lanes of a warp bring pointers; the last one does `work` for all; all go on. */
template <class F> inline void together(const void* p0, const void* p1, const void* p2, F work) {
  Warp* w = now->warp;
  unsigned g = w->generation;
  int l = now->lane;
  w->slot[l][0] = p0; w->slot[l][1] = p1; w->slot[l][2] = p2;
  if (++w->arrived == w->size) { work(w); w->arrived = 0; w->generation++; return; }
  while (w->generation == g) yield();
}
void run_block(const Block& b, void (*body)(void*), void* argument, unsigned seed);
// The driver copies parameters: no alignment is owed.
template <class T> inline T take(const void* p) { T x; memcpy(&x, p, sizeof x); return x; }
template <class... A> struct Entry {
  void (*function)(A...); void** parameters;
  template <size_t... I> void call(std::index_sequence<I...>) { function(take<A>(parameters[I])...); }
  static void body(void* self) { ((Entry*)self)->call(std::index_sequence_for<A...>{}); }
};
using Run = void (*)(void** parameters, const Block& b, unsigned seed);
/** Copies of the parameters, for a launch that runs later. */
using Kept = std::vector<std::vector<unsigned char>>;
using Keep = Kept (*)(void** parameters);
template <auto F> struct Invoke;
template <class... A, void (*F)(A...)> struct Invoke<F> {
  static void run(void** parameters, const Block& b, unsigned seed) {
    Entry<A...> e{F, parameters};
    run_block(b, &Entry<A...>::body, &e, seed);
  }
  static Kept keep(void** parameters) {
    Kept kept;
    for (size_t size : {sizeof(A)...}) { auto p = (unsigned char*)parameters[kept.size()]; kept.emplace_back(p, p + size); }
    return kept;
  }
};
/** The launch bound of the kernel that is exported next. */
struct Bound {
  static int& last() { static int threads = 0; return threads; }
  Bound(int threads) { last() = threads; }
};
struct Export {
  const char* name; Run run; Keep keep; int threads; Export* next;
  static Export*& first() { static Export* head = nullptr; return head; }
  Export(const char* n, Run r, Keep k) : name(n), run(r), keep(k), threads(Bound::last()), next(first()) { first() = this; }
};
}  // namespace emulator
#define threadIdx (emulator::now->thread)
#define blockIdx (emulator::now->block->index)
#define blockDim (emulator::now->block->dim)
#define gridDim (emulator::now->block->grid)
#define __syncthreads() emulator::barrier()

inline uint32_t __float_as_uint(float x) { uint32_t u; memcpy(&u, &x, 4); return u; }
inline float __uint_as_float(uint32_t u) { float x; memcpy(&x, &u, 4); return x; }
inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
inline float exp2_fast(float x) { return exp2f(x); }
inline void atomic_add(float* p, float x) {
  auto* a = (std::atomic<float>*)p;
  for (float old = a->load(); !a->compare_exchange_weak(old, old + x);) {}
}
inline float shuffle_xor(float x, int mask) {
  float out;
  emulator::together(&x, &out, nullptr, [mask](emulator::Warp* w) {
    for (int l = 0; l < w->size; l++) {
      int from = (l ^ mask) < w->size ? l ^ mask : l;
      *(float*)w->slot[l][1] = *(const float*)w->slot[from][0];
    }
  });
  return out;
}
/** PTX ISA, figures of mma.m16n8k16: group g = lane / 4, thread in group t = lane % 4. */
inline void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  uint32_t b[2] = {b0, b1};
  emulator::together(d, a, b, [](emulator::Warp* w) {
    if (w->size != 32) emulator::fail("a tensor-core operation of less than a warp");
    alignas(32) float A[16][16], B[16][8], C[16][8];
    for (int l = 0; l < 32; l++) {
      int g = l / 4, t = l % 4;
      const uint32_t *x = (const uint32_t*)w->slot[l][1], *y = (const uint32_t*)w->slot[l][2];
      const float* c = (const float*)w->slot[l][0];
      for (int i = 0; i < 2; i++) {
        auto half = [i](uint32_t v) { return __uint_as_float(i ? v & 0xffff0000u : v << 16); };
        A[g][2 * t + i] = half(x[0]); A[g + 8][2 * t + i] = half(x[1]);
        A[g][2 * t + 8 + i] = half(x[2]); A[g + 8][2 * t + 8 + i] = half(x[3]);
        B[2 * t + i][g] = half(y[0]); B[2 * t + 8 + i][g] = half(y[1]);
        C[g][2 * t + i] = c[i]; C[g + 8][2 * t + i] = c[2 + i];
      }
    }
    for (int r = 0; r < 16; r++) {
      float sum[8];
      for (int n = 0; n < 8; n++) sum[n] = C[r][n];
      for (int k = 0; k < 16; k++) for (int n = 0; n < 8; n++) sum[n] += A[r][k] * B[k][n];
      for (int n = 0; n < 8; n++) C[r][n] = sum[n];
    }
    for (int l = 0; l < 32; l++) {
      float* out = (float*)w->slot[l][0];
      int g = l / 4, t = l % 4;
      out[0] = C[g][2 * t]; out[1] = C[g][2 * t + 1]; out[2] = C[g + 8][2 * t]; out[3] = C[g + 8][2 * t + 1];
    }
  });
}
template <bool transposed> inline void load_matrices_any(uint32_t (&r)[4], const void* p) {
  emulator::together(r, p, nullptr, [](emulator::Warp* w) {
    if (w->size != 32) emulator::fail("a matrix load of less than a warp");
    for (int l = 0; l < 32; l++)
      if ((uintptr_t)w->slot[l][1] & 15) emulator::fail("a matrix load from an address that is not aligned to 16 bytes");
    for (int l = 0; l < 32; l++)
      for (int m = 0; m < 4; m++) {
        uint32_t v = 0;
        for (int i = 0; i < 2; i++) {
          int row = transposed ? (l % 4) * 2 + i : l / 4, column = transposed ? l / 4 : (l % 4) * 2 + i;
          v |= (uint32_t)((const uint16_t*)w->slot[m * 8 + row][1])[column] << (16 * i);
        }
        ((uint32_t*)w->slot[l][0])[m] = v;
      }
  });
}
inline void load_matrices(uint32_t (&r)[4], const void* p) { load_matrices_any<false>(r, p); }
inline void load_matrices_transposed(uint32_t (&r)[4], const void* p) { load_matrices_any<true>(r, p); }
// A copy lands only when it is waited for, so that a missing wait shows; before that the target holds NaN.
inline void copy_async(void* to, const void* from, bool valid) {
  if (((uintptr_t)to & 15) || (valid && ((uintptr_t)from & 15))) emulator::fail("an asynchronous copy that is not aligned to 16 bytes");
  memset(to, 0xff, 16);
  emulator::now->open.push_back({to, from, valid});
}
inline void copy_commit() { emulator::now->groups.push_back(std::move(emulator::now->open)); emulator::now->open.clear(); }
template <int N> inline void copy_wait() {
  auto& g = emulator::now->groups;
  while ((int)g.size() > N) {
    for (auto& c : g.front()) { if (c.valid) memcpy(c.to, c.from, 16); else memset(c.to, 0, 16); }
    g.erase(g.begin());
  }
}
