#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <span>

namespace krul {

/// Memory for values that vector instructions and large pages like: aligned to 64 bytes, or to 2 MiB where it is
/// larger than that. Not initialised. Movable.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;

  /// @throws std::bad_alloc
  explicit AlignedBuffer(std::size_t bytes) : size_(bytes) {
    constexpr std::size_t large_page = std::size_t{2} << 20;
    const std::size_t alignment = bytes >= large_page ? large_page : 64;
    if (bytes > std::numeric_limits<std::size_t>::max() - alignment) throw std::bad_alloc();
    const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    if (rounded == 0) return;
    void* memory = std::aligned_alloc(alignment, rounded);
    if (memory == nullptr) throw std::bad_alloc();
    // Advice only: without large pages everything works, with more misses of the address translation.
    if (alignment == large_page) ::madvise(memory, rounded, MADV_HUGEPAGE);
    data_.reset(static_cast<std::byte*>(memory));
  }

  [[nodiscard]] std::byte* data() const noexcept { return data_.get(); }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  /// The buffer as values of T; the caller writes them before reading.
  template <class T>
  [[nodiscard]] std::span<T> as() const noexcept {
    return {reinterpret_cast<T*>(data_.get()), size_ / sizeof(T)};
  }

  /// Makes room for at least `bytes`; forgets the contents when it has to grow.
  void reserve(std::size_t bytes) {
    if (bytes > size_) *this = AlignedBuffer(bytes);
  }

 private:
  struct Release {
    void operator()(std::byte* data) const noexcept { std::free(data); }
  };
  std::unique_ptr<std::byte, Release> data_;
  std::size_t size_ = 0;
};

}  // namespace krul
