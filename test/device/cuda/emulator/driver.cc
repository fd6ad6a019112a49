// A libcuda for tests: the driver's C interface over host memory, with kernels run by the emulator. cuModuleLoadData takes
// the path of the shared library that a kernel file was compiled into. Each allocation ends at a page that may not be
// touched and begins as NaN; streams run in order, at once. Faults can be ordered through the environment:
//   EMULATOR_MEMORY=BYTES       the card's memory
//   EMULATOR_CAPABILITY=XY      compute capability X.Y (80)
//   EMULATOR_FAIL=CALL:N:CODE   the N-th call of CALL answers CODE
#include "emulator.h"
#include <csignal>
#include <dlfcn.h>
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
enum { OK = 0, INVALID = 1, NO_MEMORY = 2, BAD_IMAGE = 200, BAD_CONTEXT = 201, BAD_HANDLE = 400, NOT_FOUND = 500 };

static std::mutex lock;
struct Allocation { size_t size, mapped; char* base; };
static std::map<uint64_t, Allocation> live;
static size_t used = 0;
static bool started = false, current = false;
static size_t memory() { static const char* s = getenv("EMULATOR_MEMORY"); return s ? strtoull(s, nullptr, 10) : (size_t)8 << 30; }
static int capability() { const char* s = getenv("EMULATOR_CAPABILITY"); return s ? atoi(s) : 80; }

static int ordered(const char* call) {
  static const char* wish = getenv("EMULATOR_FAIL");
  if (!wish) return OK;
  static std::map<std::string, int> counts;
  static std::string name; static int at = 0, code = 0;
  if (name.empty()) { char n[64]; if (sscanf(wish, "%63[^:]:%d:%d", n, &at, &code) != 3) return OK; name = n; }
  if (name != call) return OK;
  std::lock_guard g(lock);
  return ++counts[name] == at ? code : OK;
}
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
    default: *v = 0;
  }
  return OK;
}
API cuDevicePrimaryCtxRetain(void** c, int) { BEGIN("cuDevicePrimaryCtxRetain"); *c = (void*)1; return OK; }
API cuDevicePrimaryCtxRelease_v2(int) { return OK; }
API cuCtxSetCurrent(void* c) { current = c != nullptr; return OK; }
API cuCtxSynchronize() { BEGIN("cuCtxSynchronize"); NEEDS_CONTEXT; return OK; }
API cuMemGetInfo_v2(size_t* free, size_t* total) { NEEDS_CONTEXT; *total = memory(); *free = memory() - used; return OK; }

static const char* running = "no kernel";
static void fault(int, siginfo_t* i, void*) {
  char b[256];
  int n = snprintf(b, sizeof b, "emulator: %s touched memory that it does not own, at %p\n", running, i->si_addr);
  if (write(2, b, n)) {}
  _exit(97);
}
API cuMemAlloc_v2(uint64_t* p, size_t n) {
  BEGIN("cuMemAlloc");
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
API cuMemFree_v2(uint64_t p) {
  BEGIN("cuMemFree");
  std::lock_guard g(lock);
  auto i = live.find(p);
  if (i == live.end()) return INVALID;
  used -= i->second.size;
  munmap(i->second.base, i->second.mapped);
  live.erase(i);
  return OK;
}
API cuMemHostAlloc(void** p, size_t n, unsigned) { BEGIN("cuMemHostAlloc"); NEEDS_CONTEXT; *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096 + 4096); return *p ? OK : NO_MEMORY; }
API cuMemFreeHost(void* p) { free(p); return OK; }
API cuMemcpyHtoDAsync_v2(uint64_t d, const void* s, size_t n, void*) { BEGIN("cuMemcpyHtoDAsync"); NEEDS_CONTEXT; if (!inside(d, n)) return INVALID; memcpy((void*)d, s, n); return OK; }
API cuMemcpyDtoHAsync_v2(void* d, uint64_t s, size_t n, void*) { BEGIN("cuMemcpyDtoHAsync"); NEEDS_CONTEXT; if (!inside(s, n)) return INVALID; memcpy(d, (void*)s, n); return OK; }
API cuMemcpyDtoDAsync_v2(uint64_t d, uint64_t s, size_t n, void*) { BEGIN("cuMemcpyDtoDAsync"); NEEDS_CONTEXT; if (!inside(d, n) || !inside(s, n)) return INVALID; memmove((void*)d, (void*)s, n); return OK; }
API cuMemsetD8Async(uint64_t d, unsigned char v, size_t n, void*) { NEEDS_CONTEXT; if (!inside(d, n)) return INVALID; memset((void*)d, v, n); return OK; }

static std::atomic<uintptr_t> handles{16};
static std::atomic<int> streams{0}, events{0}, modules{0};
API cuStreamCreate(void** s, unsigned) { BEGIN("cuStreamCreate"); NEEDS_CONTEXT; *s = (void*)handles++; streams++; return OK; }
API cuStreamDestroy_v2(void*) { streams--; return OK; }
API cuStreamSynchronize(void*) { return OK; }
API cuStreamWaitEvent(void*, void* e, unsigned) { return e ? OK : BAD_HANDLE; }
API cuEventCreate(void** e, unsigned) { NEEDS_CONTEXT; *e = (void*)handles++; events++; return OK; }
API cuEventRecord(void* e, void*) { return e ? OK : BAD_HANDLE; }
API cuEventQuery(void* e) { BEGIN("cuEventQuery"); return e ? OK : BAD_HANDLE; }
API cuEventSynchronize(void* e) { return e ? OK : BAD_HANDLE; }
API cuEventDestroy_v2(void*) { events--; return OK; }
/** For tests: what is still open. */
API emulator_open(int* s, int* m, uint64_t* bytes) { *s = streams; *m = modules; *bytes = used; return OK; }

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

API cuLaunchKernel(void* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   void*, void** parameters, void**) {
  BEGIN("cuLaunchKernel");
  NEEDS_CONTEXT;
  if (!gx || !gy || !gz || gy > 65535 || gz > 65535 || !bx || bx * by * bz > 1024 || shared > 232448) return INVALID;
  if ((bx * by * bz) % 32) emulator::fail("a block that is not made of whole warps");
  static unsigned seed = getenv("EMULATOR_SEED") ? atoi(getenv("EMULATOR_SEED")) : 1;
  auto e = (Export*)f;
  if (bx * by * bz > (unsigned)e->threads) return INVALID;
  running = e->name;
  std::atomic<long long> next{0};
  long long blocks = (long long)gx * gy * gz;
  auto work = [&] {
    auto m = (unsigned char*)aligned_alloc(1024, (shared + 2047) & ~1023u);
    for (long long i; (i = next++) < blocks;) {
      memset(m, 0xff, shared);
      emulator::Block b{{(unsigned)(i % gx), (unsigned)(i / gx % gy), (unsigned)(i / gx / gy)}, {bx, by, bz}, {gx, gy, gz}, m, 0, 0, 0};
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
  return OK;
}
