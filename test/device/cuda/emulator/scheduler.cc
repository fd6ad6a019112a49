// Runs the threads of a block as fibers. Each warp goes on until it waits at a block barrier: the longest lead that the
// model allows; the order of warps is drawn, so that code that leans on it shows.
#include "emulator.h"
#include <sys/mman.h>
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim
namespace emulator {
thread_local Fiber* now;
thread_local void* scheduler_sp;
#if defined(__x86_64__)
asm(R"(
.globl emulator_switch
emulator_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp,(%rdi); movq %rsi,%rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");
#elif defined(__aarch64__)
asm(R"(
.globl emulator_switch
emulator_switch:
  sub sp, sp, #160
  stp x19,x20,[sp]; stp x21,x22,[sp,#16]; stp x23,x24,[sp,#32]; stp x25,x26,[sp,#48]; stp x27,x28,[sp,#64]; stp x29,x30,[sp,#80]
  stp d8,d9,[sp,#96]; stp d10,d11,[sp,#112]; stp d12,d13,[sp,#128]; stp d14,d15,[sp,#144]
  mov x9, sp; str x9,[x0]; mov sp, x1
  ldp x19,x20,[sp]; ldp x21,x22,[sp,#16]; ldp x23,x24,[sp,#32]; ldp x25,x26,[sp,#48]; ldp x27,x28,[sp,#64]; ldp x29,x30,[sp,#80]
  ldp d8,d9,[sp,#96]; ldp d10,d11,[sp,#112]; ldp d12,d13,[sp,#128]; ldp d14,d15,[sp,#144]
  add sp, sp, #160
  ret
)");
#else
#error "the emulator knows x86-64 and arm64"
#endif
static constexpr size_t stack_size = 64 << 10;
struct Pool { unsigned char* memory = nullptr; std::vector<Fiber> fibers; std::vector<Warp> warps; std::vector<int> order; };
static thread_local Pool pool;
static thread_local void (*entry)(void*);
static thread_local void* entry_argument;

static void start() {
  entry(entry_argument);
  Fiber* f = now;
  Block* b = f->block;
  f->done = true;
  b->live--;
  if (b->live && b->arrived == b->live) fail("a thread left while others wait at __syncthreads");
  if (f->warp->arrived) fail("a lane left while its warp works together");
  f->warp->size--;
  yield();
  abort();
}

static void prepare(Fiber& f, int i, Block& b) {
  f.block = &b; f.warp = &pool.warps[i / 32]; f.lane = i % 32; f.done = false; f.groups.clear(); f.open.clear();
  f.thread = {i % b.dim.x, i / b.dim.x % b.dim.y, i / (b.dim.x * b.dim.y)};
  void** sp = (void**)((uintptr_t)(pool.memory + stack_size * (i + 1)) & ~(uintptr_t)15);
#if defined(__x86_64__)
  *--sp = nullptr; *--sp = (void*)start;
  for (int j = 0; j < 6; j++) *--sp = nullptr;
#else
  sp -= 20; memset(sp, 0, 160); sp[11] = (void*)start;
#endif
  f.sp = sp;
}

void run_block(const Block& given, void (*body)(void*), void* argument, unsigned seed) {
  Block b = given;
  int n = b.dim.x * b.dim.y * b.dim.z;
  if (!pool.memory)
    pool.memory = (unsigned char*)mmap(nullptr, stack_size * 1024, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pool.memory == MAP_FAILED) fail("no memory for stacks");
  int warps = (n + 31) / 32;
  pool.fibers.resize(n);
  pool.warps.assign(warps, Warp{});
  if (n % 32) pool.warps.back().size = n % 32;
  pool.order.clear();
  b.live = n; b.arrived = 0; b.generation = 0;
  entry = body; entry_argument = argument;
  for (int i = 0; i < n; i++) prepare(pool.fibers[i], i, b);
  unsigned s = seed * 2654435761u + 1;
  std::vector<int> w(warps);
  for (int i = 0; i < warps; i++) w[i] = i;
  for (int i = warps - 1; i > 0; i--) { s = s * 1664525u + 1013904223u; std::swap(w[i], w[(s >> 8) % (i + 1)]); }
  for (int i : w) for (int l = i * 32; l < n && l < i * 32 + 32; l++) pool.order.push_back(l);
  int idle = 0;
  while (b.live > 0) {
    unsigned generation = b.generation;
    int live = b.live;
    for (int base = 0; base < n; base += 32) {
      for (bool progress = true; progress;) {
        progress = false;
        for (int i = base; i < n && i < base + 32; i++) {
          Fiber& f = pool.fibers[pool.order[i]];
          if (f.done) continue;
          unsigned g = f.warp->generation;
          now = &f;
          emulator_switch(&scheduler_sp, f.sp);
          if (f.warp->generation != g) progress = true;
        }
      }
    }
    if (b.generation == generation && b.live == live) {
      if (++idle > 64) fail("deadlock: threads wait for others that never come");
    } else idle = 0;
  }
}
}  // namespace emulator
