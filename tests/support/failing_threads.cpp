#include "failing_threads.hpp"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>

namespace krul::test {
namespace {

std::atomic<bool> none_starts = false;

}  // namespace

NoThreads::NoThreads() {
  none_starts = true;
}
NoThreads::~NoThreads() {
  none_starts = false;
}

}  // namespace krul::test

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                              void* argument) {
  static const auto next = reinterpret_cast<decltype(&pthread_create)>(::dlsym(RTLD_NEXT, "pthread_create"));
  return krul::test::none_starts ? EAGAIN : next(thread, attributes, start, argument);
}
