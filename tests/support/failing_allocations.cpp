#include "failing_allocations.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace krul::test {
namespace {

std::atomic<bool> is_armed = false;
std::atomic<std::uint64_t> counted = 0;
AllocationFault armed;

bool fails_now() {
  if (!is_armed.load(std::memory_order_acquire)) return false;
  const std::uint64_t number = counted.fetch_add(1, std::memory_order_relaxed);
  return armed.once ? number == armed.first : number >= armed.first;
}

void* allocate(std::size_t bytes, std::size_t alignment) {
  void* const memory = fails_now() ? nullptr : std::aligned_alloc(alignment, (bytes / alignment + 1) * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void begin_failing(const AllocationFault& fault) {
  armed = fault;
  counted = 0;
  is_armed.store(true, std::memory_order_release);
}

std::uint64_t end_failing() {
  is_armed = false;
  return counted;
}

}  // namespace krul::test

void* operator new(std::size_t bytes) {
  return krul::test::allocate(bytes, __STDCPP_DEFAULT_NEW_ALIGNMENT__);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return krul::test::allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}
