// What ThreadSanitizer has to be told about OpenMP. libgomp is not compiled with it and hands work over by futexes that
// it does not see, so that everything a region reads of its caller's would look like a race, and the other way round.
// The linker leads the calls that begin our regions here (src/cpp/CMakeLists.txt: --wrap): what the caller did comes
// before what its threads do, and that before what the caller does next. Threads of one region, and regions of several
// callers, are not ordered by it: races between them are found.
#include <sanitizer/tsan_interface.h>

namespace {

struct Region {
  void (*body)(void*);
  void* data;
  char begun, ended;  // only their addresses count
};

}  // namespace

extern "C" {

void __real_GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned flags);

// Reads what the caller wrote before that is known to have been earlier.
__attribute__((no_sanitize("thread"))) static void run_region(void* context) {
  auto* const region = static_cast<Region*>(context);
  __tsan_acquire(&region->begun);
  region->body(region->data);
  __tsan_release(&region->ended);
}

__attribute__((no_sanitize("thread"))) void __wrap_GOMP_parallel(void (*body)(void*), void* data, unsigned threads,
                                                                 unsigned flags) {
  Region region{body, data, 0, 0};
  __tsan_release(&region.begun);
  __real_GOMP_parallel(&run_region, &region, threads, flags);
  __tsan_acquire(&region.ended);
}

}  // extern "C"
