// The only file that knows whether a kernel runs on a GPU (compiled by NVRTC) or in the tests' emulator (compiled by g++).
// Kernels include this and nothing else: no CUDA headers, so NVRTC needs no include path. Tensor cores, asynchronous
// copies, shuffles and atomics only through here. Rules for kernels: docs/cuda.md.
#pragma once
#ifdef KINORA_EMULATED
#include "emulator.h"
#else
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#define DEVICE __device__ __forceinline__
/** For what is long and seldom runs. */
#define DEVICE_CALLED __device__ __noinline__
#define KERNEL(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
/** Tells the emulator of a kernel. */
#define EXPORT(name)
#define SHARED __shared__
#define DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#endif

struct bf16 { uint16_t bits; };
struct f16 { uint16_t bits; };
/** 16 bytes: one asynchronous copy, 8 bf16. */
struct alignas(16) Chunk { uint32_t w[4]; };

static constexpr float LOG2E = 1.4426950408889634f;
static constexpr float LN2 = 0.6931471805599453f;

/** Numbers of dtypes, as the host gives them (src/device/cuda/context.ts). */
enum DType { F32 = 0, BF16 = 1, F16 = 2, F8E4M3 = 3, F8E5M2 = 4, I8 = 5, U8 = 6, I32 = 7, I64 = 8, BOOL = 9, F64 = 10, I16 = 11 };

DEVICE uint32_t float_bits(float x) { return __float_as_uint(x); }
DEVICE float bits_float(uint32_t b) { return __uint_as_float(b); }
#define INFINITE bits_float(0x7f800000u)

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return bits_float((uint32_t)x.bits << 16); }
/** Rounds to nearest, ties to even. */
DEVICE uint16_t round_bf16(float x) {
  uint32_t u = float_bits(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40);
  return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
DEVICE float half_float(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
  if (exponent == 31) return bits_float(sign | 0x7f800000u | (mantissa << 13));
  if (exponent) return bits_float(sign | ((exponent + 112) << 23) | (mantissa << 13));
  float magnitude = (float)mantissa * 5.9604644775390625e-08f;
  return sign ? -magnitude : magnitude;
}
DEVICE uint16_t round_half(float x) {
  uint32_t u = float_bits(x), sign = (u >> 16) & 0x8000, magnitude = u & 0x7fffffff;
  if (magnitude >= 0x47800000) return (uint16_t)(sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00));
  if (magnitude >= 0x38800000) return (uint16_t)(sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13));
  if (magnitude < 0x33000000) return (uint16_t)sign;
  int shift = 126 - (int)(magnitude >> 23);
  uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000, half = 1u << (shift - 1);
  return (uint16_t)(sign | ((mantissa + half - 1 + ((mantissa >> shift) & 1)) >> shift));
}
DEVICE float to_float(f16 x) { return half_float(x.bits); }

template <class T> DEVICE T from_float(float x);
template <> DEVICE float from_float<float>(float x) { return x; }
template <> DEVICE f16 from_float<f16>(float x) { return f16{round_half(x)}; }
#ifdef KINORA_EMULATED
template <> DEVICE bf16 from_float<bf16>(float x) { return bf16{round_bf16(x)}; }
DEVICE uint32_t pack_bf16(float low, float high) { return (uint32_t)round_bf16(low) | ((uint32_t)round_bf16(high) << 16); }
#else
DEVICE uint32_t pack_bf16(float low, float high) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
template <> DEVICE bf16 from_float<bf16>(float x) { return bf16{(uint16_t)pack_bf16(x, 0.f)}; }
#endif

/** E4M3FN: no infinities, 0x7f is NaN. */
DEVICE float e4m3_float(uint8_t b) {
  uint32_t exponent = (b >> 3) & 15, mantissa = b & 7;
  float magnitude = exponent == 15 && mantissa == 7 ? bits_float(0x7fc00000u)
                    : exponent                      ? bits_float(((exponent + 120) << 23) | (mantissa << 20))
                                                    : (float)mantissa * 0.001953125f;
  return b & 0x80 ? -magnitude : magnitude;
}
DEVICE float e5m2_float(uint8_t b) { return half_float((uint16_t)(b << 8)); }

/** Rounds to a float of `mantissa` bits and `exponent` bits, to nearest, ties to even, as PyTorch does. */
template <int EXPONENT, int MANTISSA, bool FINITE> DEVICE uint8_t round_small(float x) {
  constexpr int bias = (1 << (EXPONENT - 1)) - 1, top = (1 << EXPONENT) - 1;
  constexpr uint8_t nan = (uint8_t)((top << MANTISSA) | (FINITE ? (1 << MANTISSA) - 1 : 1 << (MANTISSA - 1)));
  constexpr uint8_t infinity = (uint8_t)(top << MANTISSA);
  uint32_t u = float_bits(x);
  uint8_t sign = (uint8_t)((u >> 24) & 0x80);
  uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return nan;
  if (magnitude == 0x7f800000u) return (uint8_t)(sign | (FINITE ? nan : infinity));
  int exponent = (int)(magnitude >> 23) - 127;
  if (exponent < 1 - bias) exponent = 1 - bias;
  // Steps of the target's grid at this exponent.
  float scaled = bits_float(magnitude) * bits_float((uint32_t)(127 - exponent + MANTISSA) << 23);
  uint32_t whole = (uint32_t)scaled;
  float rest = scaled - (float)whole;
  if (rest > 0.5f || (rest == 0.5f && (whole & 1))) whole++;
  uint32_t code = whole < (1u << MANTISSA) ? whole : ((uint32_t)(exponent + bias - 1) << MANTISSA) + whole;
  uint32_t most = FINITE ? nan : infinity;
  return (uint8_t)(sign | (code < most ? code : most));
}
DEVICE uint8_t round_e4m3(float x) { return round_small<4, 3, true>(x); }
DEVICE uint8_t round_e5m2(float x) { return round_small<5, 2, false>(x); }

/** Element `i` of memory in any format, as float32. */
DEVICE float load_any(const void* p, int64_t i, int dtype) {
  switch (dtype) {
    case F32: return ((const float*)p)[i];
    case BF16: return to_float(((const bf16*)p)[i]);
    case F16: return to_float(((const f16*)p)[i]);
    case F8E4M3: return e4m3_float(((const uint8_t*)p)[i]);
    case F8E5M2: return e5m2_float(((const uint8_t*)p)[i]);
    case I8: return (float)((const int8_t*)p)[i];
    case U8: case BOOL: return (float)((const uint8_t*)p)[i];
    case I16: return (float)((const short*)p)[i];
    case I32: return (float)((const int*)p)[i];
    case I64: return (float)((const int64_t*)p)[i];
    default: return (float)((const double*)p)[i];
  }
}
/** Integers are cut off towards zero. */
DEVICE void store_any(void* p, int64_t i, int dtype, float x) {
  switch (dtype) {
    case F32: ((float*)p)[i] = x; break;
    case BF16: ((bf16*)p)[i] = from_float<bf16>(x); break;
    case F16: ((f16*)p)[i] = from_float<f16>(x); break;
    case F8E4M3: ((uint8_t*)p)[i] = round_e4m3(x); break;
    case F8E5M2: ((uint8_t*)p)[i] = round_e5m2(x); break;
    case F64: ((double*)p)[i] = x; break;
    case I8: ((int8_t*)p)[i] = (int8_t)x; break;
    case U8: ((uint8_t*)p)[i] = (uint8_t)x; break;
    case BOOL: ((uint8_t*)p)[i] = x != 0.f; break;
    case I16: ((short*)p)[i] = (short)x; break;
    case I32: ((int*)p)[i] = (int)x; break;
    default: ((int64_t*)p)[i] = (int64_t)x; break;
  }
}

/** Eight neighbours: two loads of 16 bytes in float32, one in bf16. */
struct Eight { float v[8]; };
DEVICE_CALLED float load_other(const void* p, int64_t i, int dtype) { return load_any(p, i, dtype); }
DEVICE_CALLED void store_other(void* p, int64_t i, int dtype, float x) { store_any(p, i, dtype, x); }
DEVICE bool is_aligned(const void* p) { return ((uint64_t)p & 15) == 0; }
/** Elements i … i + count of memory in any format; zeros behind them. */
DEVICE Eight load_eight(const void* p, int64_t i, int dtype, int count) {
  Eight e;
  if (count == 8 && dtype == BF16 && is_aligned((const bf16*)p + i)) {
    const Chunk c = *(const Chunk*)((const bf16*)p + i);
#pragma unroll
    for (int j = 0; j < 4; j++) { e.v[2 * j] = bits_float(c.w[j] << 16); e.v[2 * j + 1] = bits_float(c.w[j] & 0xffff0000u); }
  } else if (count == 8 && dtype == F32 && is_aligned((const float*)p + i)) {
    const Chunk a = ((const Chunk*)((const float*)p + i))[0], b = ((const Chunk*)((const float*)p + i))[1];
#pragma unroll
    for (int j = 0; j < 4; j++) { e.v[j] = bits_float(a.w[j]); e.v[4 + j] = bits_float(b.w[j]); }
  } else {
#pragma unroll
    for (int j = 0; j < 8; j++) e.v[j] = j < count ? load_other(p, i + j, dtype) : 0.f;
  }
  return e;
}
DEVICE void store_eight(void* p, int64_t i, int dtype, const Eight& e, int count) {
  if (count == 8 && dtype == BF16 && is_aligned((bf16*)p + i)) {
    *(Chunk*)((bf16*)p + i) = {pack_bf16(e.v[0], e.v[1]), pack_bf16(e.v[2], e.v[3]), pack_bf16(e.v[4], e.v[5]), pack_bf16(e.v[6], e.v[7])};
  } else if (count == 8 && dtype == F32 && is_aligned((float*)p + i)) {
    Chunk* to = (Chunk*)((float*)p + i);
    to[0] = {float_bits(e.v[0]), float_bits(e.v[1]), float_bits(e.v[2]), float_bits(e.v[3])};
    to[1] = {float_bits(e.v[4]), float_bits(e.v[5]), float_bits(e.v[6]), float_bits(e.v[7])};
  } else {
#pragma unroll
    for (int j = 0; j < 8; j++) if (j < count) store_other(p, i + j, dtype, e.v[j]);
  }
}
/** Eights of `n` elements that all threads of all blocks share: f(first, count). */
template <class F> DEVICE void each_eight(int64_t n, F f) {
  for (int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8; i < n; i += (int64_t)gridDim.x * blockDim.x * 8)
    f(i, n - i < 8 ? (int)(n - i) : 8);
}

#ifndef KINORA_EMULATED
DEVICE uint32_t shared_address(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }
DEVICE float shuffle_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE void atomic_add(float* p, float x) { atomicAdd(p, x); }
/** d[16x8] += a[16x16]·b[16x8], bf16 in, float32 accumulation. PTX ISA, mma.m16n8k16. */
DEVICE void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/** Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8. PTX ISA, ldmatrix. */
DEVICE void load_matrices(uint32_t (&r)[4], const void* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
    : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)) : "memory");
}
DEVICE void load_matrices_transposed(uint32_t (&r)[4], const void* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];"
    : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)) : "memory");
}
/** 16 bytes to shared memory; zeros where not valid. Seen after copy_wait and a barrier. */
DEVICE void copy_async(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;" ::"r"(shared_address(shared)), "l"(global), "r"(valid ? 16 : 0) : "memory");
}
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> DEVICE void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }
#endif

DEVICE float warp_sum(float x) {
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) x += shuffle_xor(x, mask);
  return x;
}
DEVICE float warp_max(float x) {
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) x = fmaxf(x, shuffle_xor(x, mask));
  return x;
}
/** The sum over the threads of a block, in all of them. `scratch` has room for 32 floats. */
DEVICE float block_sum(float x, float* scratch) {
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0.f;
  for (int i = 0; i < (int)blockDim.x / 32; i++) sum += scratch[i];
  __syncthreads();
  return sum;
}
DEVICE float block_max(float x, float* scratch) {
  x = warp_max(x);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  float most = scratch[0];
  for (int i = 1; i < (int)blockDim.x / 32; i++) most = fmaxf(most, scratch[i]);
  __syncthreads();
  return most;
}
/**
 * A row that `width` threads share: a warp, which meets nobody else, or the whole block. Rows beyond the last leave at
 * once: only whole warps do.
 */
struct Row {
  int width, lane;
  int64_t index;
  float* scratch;
  DEVICE float sum(float x) const { return width == 32 ? warp_sum(x) : block_sum(x, scratch); }
  DEVICE float most(float x) const { return width == 32 ? warp_max(x) : block_max(x, scratch); }
  /** Eights of the row's `columns` elements: f(first, count). */
  template <class F> DEVICE void each_eight(int columns, F f) const {
    for (int c = lane * 8; c < columns; c += width * 8) f(c, columns - c < 8 ? columns - c : 8);
  }
};
DEVICE Row own_row_of(int width, float* scratch) {
  const int per_block = (int)blockDim.x / width;
  return {width, (int)threadIdx.x % width, (int64_t)blockIdx.x * per_block + threadIdx.x / width, scratch};
}
/** The table row that a row of a tall matrix uses: runs are pairs (first row, table row), ascending. */
DEVICE int table_row(const int* runs, int count, int64_t row) {
  int table = 0;
  for (int i = 0; i < count; i++)
    if (runs[2 * i] <= row) table = runs[2 * i + 1];
  return table;
}
/** Where an element of a shape, the last axis innermost, lies on two sides with strides of their own. */
template <int AXES, class Stride>
DEVICE void offsets(int64_t element, const int* extent, const Stride* a, const Stride* b, int64_t& at_a, int64_t& at_b) {
  at_a = at_b = 0;
  for (int axis = AXES - 1; axis >= 0; axis--) {
    int64_t coordinate = element % extent[axis];
    element /= extent[axis];
    at_a += coordinate * a[axis];
    at_b += coordinate * b[axis];
  }
}
/** The first element of a loop over `n` elements that all threads of all blocks share, and how far apart theirs are. */
DEVICE int64_t first_element() { return (int64_t)blockIdx.x * blockDim.x + threadIdx.x; }
DEVICE int64_t element_step() { return (int64_t)gridDim.x * blockDim.x; }
