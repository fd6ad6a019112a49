// A libcuda for tests: the driver's C interface over host memory, with kernels run by the emulator. cuModuleLoadData takes
// the path of the shared library that a kernel file was compiled into. Each allocation ends at a page that may not be
// touched and begins as NaN. Streams run in order: at once, or as late or as early as their events allow (emulator_order), so
// that a missing wait shows. What it is, and faults, can be ordered through the environment:
//   EMULATOR_MEMORY=BYTES       the card's memory
//   EMULATOR_CAPABILITY=XY      compute capability X.Y (80)
//   EMULATOR_VERSION=NUMBER     the driver's (13000)
//   EMULATOR_COUNT=NUMBER       of cards (1)
//   EMULATOR_POOLS=0            no stream-ordered allocation
//   EMULATOR_FAIL=CALL:N:CODE   the N-th call of CALL answers CODE; emulator_fail orders another
#include "emulator.h"
#include <csignal>
#include <deque>
#include <dlfcn.h>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim
using emulator::Export;
#define API extern "C" __attribute__((visibility("default"))) int
enum { OK = 0, INVALID = 1, NO_MEMORY = 2, BAD_IMAGE = 200, BAD_CONTEXT = 201, BAD_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600 };

static std::mutex lock;
struct Allocation { size_t size, mapped; char* base; };
static std::map<uint64_t, Allocation> live;
static size_t used = 0;
static bool started = false, current = false;
static size_t memory() { const char* s = getenv("EMULATOR_MEMORY"); return s ? strtoull(s, nullptr, 10) : (size_t)8 << 30; }
static int capability() { const char* s = getenv("EMULATOR_CAPABILITY"); return s ? atoi(s) : 80; }

static std::map<std::string, uint64_t> calls;
struct Fault { std::string call; uint64_t at = 0; int code = 0; };
static Fault fault_of(const char* wish) {
  char name[64]; int at = 0, code = 0;
  return wish && sscanf(wish, "%63[^:]:%d:%d", name, &at, &code) == 3 ? Fault{name, (uint64_t)at, code} : Fault{};
}
static Fault wanted = fault_of(getenv("EMULATOR_FAIL"));
static int ordered(const char* call) {
  std::lock_guard g(lock);
  uint64_t count = ++calls[call];
  return wanted.call == call && count == wanted.at ? wanted.code : OK;
}
/** For tests: counts calls anew and orders a fault, or none. */
API emulator_fail(const char* wish) { std::lock_guard g(lock); calls.clear(); wanted = fault_of(wish); return OK; }
extern "C" __attribute__((visibility("default"))) uint64_t emulator_calls(const char* call) { std::lock_guard g(lock); return calls[call]; }
#define BEGIN(call) if (int code = ordered(call)) return code; if (!started) return 3
#define NEEDS_CONTEXT if (!current) return BAD_CONTEXT

/** A range that lies in one allocation. */
static bool inside(uint64_t p, size_t n) {
  std::lock_guard g(lock);
  auto i = live.upper_bound(p);
  if (i == live.begin()) return false;
  --i;
  return p + n <= i->first + i->second.size;
}

API cuInit(unsigned) { if (int code = ordered("cuInit")) return code; started = true; return OK; }
API cuDriverGetVersion(int* v) { const char* s = getenv("EMULATOR_VERSION"); *v = s ? atoi(s) : 13000; return OK; }
API cuDeviceGetCount(int* n) { BEGIN("cuDeviceGetCount"); const char* s = getenv("EMULATOR_COUNT"); *n = s ? atoi(s) : 1; return OK; }
API cuDeviceGet(int* d, int i) { BEGIN("cuDeviceGet"); *d = i; return i >= 0 ? OK : 101; }
API cuDeviceGetName(char* s, int n, int) { snprintf(s, n, "CUDA emulator"); return OK; }
API cuDeviceTotalMem_v2(size_t* n, int) { *n = memory(); return OK; }
API cuDeviceGetAttribute(int* v, int a, int) {
  switch (a) {
    case 75: *v = capability() / 10; break;
    case 76: *v = capability() % 10; break;
    case 16: *v = 2; break;
    case 97: *v = 101376; break;
    case 115: { const char* s = getenv("EMULATOR_POOLS"); *v = !s || *s != '0'; break; }
    default: *v = 0;
  }
  return OK;
}
static std::atomic<int> contexts{0};
API cuDevicePrimaryCtxRetain(void** c, int) { BEGIN("cuDevicePrimaryCtxRetain"); contexts++; *c = (void*)1; return OK; }
API cuDevicePrimaryCtxRelease_v2(int) { contexts--; return OK; }
API cuCtxSetCurrent(void* c) { current = c != nullptr; return OK; }
API cuMemGetInfo_v2(size_t* free, size_t* total) { NEEDS_CONTEXT; *total = memory(); *free = memory() - used; return OK; }

static const char* running = "no kernel";
static void fault(int, siginfo_t* i, void*) {
  char b[256];
  int n = snprintf(b, sizeof b, "emulator: %s touched memory that it does not own, at %p\n", running, i->si_addr);
  if (write(2, b, n)) {}
  _exit(97);
}
static int take(uint64_t* p, size_t n) {
  NEEDS_CONTEXT;
  if (!n) return INVALID;
  std::lock_guard g(lock);
  if (used + n > memory()) return NO_MEMORY;
  if (getenv("EMULATOR_GUARD")) {
    struct sigaction a{};
    a.sa_sigaction = fault; a.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &a, nullptr);
  }
  size_t size = (n + 15) & ~(size_t)15, mapped = (size + 4095) / 4096 * 4096;
  char* base = (char*)mmap(nullptr, mapped + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return NO_MEMORY;
  mprotect(base + mapped, 4096, PROT_NONE);
  char* m = base + mapped - size;
  memset(m, 0xff, n);
  live[(uint64_t)m] = {n, mapped + 4096, base};
  used += n;
  *p = (uint64_t)m;
  return OK;
}
API cuMemAlloc_v2(uint64_t* p, size_t n) { BEGIN("cuMemAlloc"); return take(p, n); }

/** What a stream still has to do, and how much it has done. Positions count from its beginning. */
struct Stream { std::deque<std::function<void()>> todo; uint64_t done = 0; bool computes = false; };
struct Event { uintptr_t stream; uint64_t position; bool asked; };
static std::map<uintptr_t, Stream> streams;
static std::map<uintptr_t, Event> events;
enum { AT_ONCE = 0, KERNELS_LATE = 1, COPIES_LATE = 2, ALL_LATE = 3 };
static int order = AT_ONCE;
static void advance(uintptr_t s, uint64_t position) {
  Stream& stream = streams[s];
  while (stream.done < position && !stream.todo.empty()) {
    auto work = std::move(stream.todo.front());
    stream.todo.pop_front();
    stream.done++;
    work();
  }
}
static uint64_t end_of(uintptr_t s) { return streams[s].done + streams[s].todo.size(); }
static void drain() { for (auto& [s, _] : streams) advance(s, end_of(s)); }
static int submit(void* s, std::function<void()> work) {
  Stream& stream = streams[(uintptr_t)s];
  stream.todo.push_back(std::move(work));
  if (!(order & (stream.computes ? KERNELS_LATE : COPIES_LATE))) advance((uintptr_t)s, end_of((uintptr_t)s));
  return OK;
}
/** For tests: from now on, which streams work only when something waits for them. */
API emulator_order(int mode) { drain(); order = mode; return OK; }
/** For the library of products, which works on a stream too. */
API emulator_submit(void* s, void (*work)(void*), void* argument) { streams[(uintptr_t)s].computes = true; return submit(s, [=] { work(argument); }); }

API cuCtxSynchronize() { BEGIN("cuCtxSynchronize"); NEEDS_CONTEXT; drain(); return OK; }
/** Out of the list at once; the memory goes when `later` runs. */
static int release(uint64_t p, std::function<void()>& later) {
  std::lock_guard g(lock);
  auto i = live.find(p);
  if (i == live.end()) return INVALID;
  Allocation a = i->second;
  used -= a.size;
  live.erase(i);
  later = [a] { munmap(a.base, a.mapped); };
  return OK;
}
API cuMemFree_v2(uint64_t p) {
  BEGIN("cuMemFree");
  drain();
  std::function<void()> later;
  if (int code = release(p, later)) return code;
  later();
  return OK;
}
API cuMemAllocAsync(uint64_t* p, size_t n, void*) { BEGIN("cuMemAllocAsync"); return take(p, n); }
API cuMemFreeAsync(uint64_t p, void* s) {
  BEGIN("cuMemFreeAsync");
  std::function<void()> later;
  if (int code = release(p, later)) return code;
  return submit(s, later);
}
static std::atomic<int> pinned{0};
API cuMemHostAlloc(void** p, size_t n, unsigned) { BEGIN("cuMemHostAlloc"); NEEDS_CONTEXT; *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096 + 4096); if (*p) pinned++; return *p ? OK : NO_MEMORY; }
API cuMemFreeHost(void* p) { BEGIN("cuMemFreeHost"); drain(); pinned--; free(p); return OK; }
API cuMemcpyHtoDAsync_v2(uint64_t d, const void* h, size_t n, void* s) { BEGIN("cuMemcpyHtoDAsync"); NEEDS_CONTEXT; if (!inside(d, n)) return INVALID; return submit(s, [=] { memcpy((void*)d, h, n); }); }
API cuMemcpyDtoHAsync_v2(void* h, uint64_t d, size_t n, void* s) { BEGIN("cuMemcpyDtoHAsync"); NEEDS_CONTEXT; if (!inside(d, n)) return INVALID; return submit(s, [=] { memcpy(h, (void*)d, n); }); }
API cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t n, void* s) { BEGIN("cuMemcpyDtoDAsync"); NEEDS_CONTEXT; if (!inside(to, n) || !inside(from, n)) return INVALID; return submit(s, [=] { memmove((void*)to, (void*)from, n); }); }
API cuMemsetD8Async(uint64_t d, unsigned char v, size_t n, void* s) { BEGIN("cuMemsetD8Async"); NEEDS_CONTEXT; if (!inside(d, n)) return INVALID; return submit(s, [=] { memset((void*)d, v, n); }); }

static uintptr_t handles = 16;
static std::atomic<int> modules{0};
API cuStreamCreate(void** s, unsigned) { BEGIN("cuStreamCreate"); NEEDS_CONTEXT; streams[handles]; *s = (void*)handles++; return OK; }
API cuStreamDestroy_v2(void* s) { BEGIN("cuStreamDestroy"); advance((uintptr_t)s, end_of((uintptr_t)s)); streams.erase((uintptr_t)s); return OK; }
API cuStreamSynchronize(void* s) { BEGIN("cuStreamSynchronize"); advance((uintptr_t)s, end_of((uintptr_t)s)); return OK; }
API cuStreamWaitEvent(void* s, void* e, unsigned) {
  BEGIN("cuStreamWaitEvent");
  auto i = events.find((uintptr_t)e);
  if (i == events.end()) return BAD_HANDLE;
  Event event = i->second;
  return submit(s, [event] { if (streams.count(event.stream)) advance(event.stream, event.position); });
}
API cuEventCreate(void** e, unsigned) { BEGIN("cuEventCreate"); NEEDS_CONTEXT; events[handles] = {0, 0, false}; *e = (void*)handles++; return OK; }
API cuEventRecord(void* e, void* s) {
  BEGIN("cuEventRecord");
  if (!events.count((uintptr_t)e)) return BAD_HANDLE;
  events[(uintptr_t)e] = {(uintptr_t)s, end_of((uintptr_t)s), false};
  return OK;
}
/** Of work that is still to do, says so once; whoever asks again finds it done. */
API cuEventQuery(void* e) {
  BEGIN("cuEventQuery");
  auto i = events.find((uintptr_t)e);
  if (i == events.end()) return BAD_HANDLE;
  Event& event = i->second;
  if (!streams.count(event.stream) || streams[event.stream].done >= event.position) return OK;
  if (!std::exchange(event.asked, true)) return NOT_READY;
  advance(event.stream, event.position);
  return OK;
}
API cuEventSynchronize(void* e) {
  BEGIN("cuEventSynchronize");
  auto i = events.find((uintptr_t)e);
  if (i == events.end()) return BAD_HANDLE;
  if (streams.count(i->second.stream)) advance(i->second.stream, i->second.position);
  return OK;
}
API cuEventDestroy_v2(void* e) { BEGIN("cuEventDestroy"); return events.erase((uintptr_t)e) ? OK : BAD_HANDLE; }
/** For tests: what is still open. */
API emulator_open(int* s, int* m, int* h, int* c, uint64_t* bytes) { *s = streams.size(); *m = modules; *h = pinned; *c = contexts; *bytes = used; return OK; }

API cuModuleLoadData(void** m, const void* image) {
  BEGIN("cuModuleLoadData");
  NEEDS_CONTEXT;
  *m = dlopen((const char*)image, RTLD_NOW | RTLD_LOCAL);
  if (!*m) { fprintf(stderr, "emulator: %s\n", dlerror()); return BAD_IMAGE; }
  modules++;
  return OK;
}
API cuModuleUnload(void* m) { dlclose(m); modules--; return OK; }
API cuModuleGetFunction(void** f, void* m, const char* name) {
  auto first = (Export * (*)()) dlsym(m, "emulator_exports");
  for (Export* e = first ? first() : nullptr; e; e = e->next)
    if (!strcmp(e->name, name)) { *f = e; return OK; }
  return NOT_FOUND;
}
API cuFuncSetAttribute(void*, int a, int v) { return a == 8 && v > 232448 ? INVALID : OK; }
API cuGetErrorName(int c, const char** s) {
  static thread_local char b[32];
  snprintf(b, sizeof b, "CUDA_ERROR_%d", c);
  *s = b;
  return OK;
}
API cuGetErrorString(int c, const char** s) { *s = c == NO_MEMORY ? "out of memory" : c == INVALID ? "invalid argument" : "as the test ordered"; return OK; }

static void run_grid(const Export* e, void** parameters, const emulator::Dim& grid, const emulator::Dim& dim, unsigned shared) {
  static unsigned seed = getenv("EMULATOR_SEED") ? atoi(getenv("EMULATOR_SEED")) : 1;
  running = e->name;
  std::atomic<long long> next{0};
  long long blocks = (long long)grid.x * grid.y * grid.z;
  auto work = [&] {
    auto m = (unsigned char*)aligned_alloc(1024, (shared + 2047) & ~1023u);
    for (long long i; (i = next++) < blocks;) {
      memset(m, 0xff, shared);
      emulator::Block b{{(unsigned)(i % grid.x), (unsigned)(i / grid.x % grid.y), (unsigned)(i / grid.x / grid.y)}, dim, grid, m, 0, 0, 0};
      e->run(parameters, b, seed + (unsigned)i);
    }
    free(m);
  };
  unsigned count = std::thread::hardware_concurrency();
  std::vector<std::thread> threads;
  // Starting a thread costs more than a small block.
  if (blocks > 8) for (unsigned i = 1; i < count; i++) threads.emplace_back(work);
  work();
  for (auto& t : threads) t.join();
  running = "no kernel";
}
API cuLaunchKernel(void* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   void* s, void** parameters, void**) {
  BEGIN("cuLaunchKernel");
  NEEDS_CONTEXT;
  if (!gx || !gy || !gz || gy > 65535 || gz > 65535 || !bx || bx * by * bz > 1024 || shared > 232448) return INVALID;
  if ((bx * by * bz) % 32) emulator::fail("a block that is not made of whole warps");
  auto e = (Export*)f;
  if (bx * by * bz > (unsigned)e->threads) return INVALID;
  streams[(uintptr_t)s].computes = true;
  return submit(s, [=, kept = e->keep(parameters)]() mutable {
    std::vector<void*> pointers;
    for (auto& value : kept) pointers.push_back(value.data());
    run_grid(e, pointers.data(), {gx, gy, gz}, {bx, by, bz}, shared);
  });
}
