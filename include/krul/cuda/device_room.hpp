#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

namespace krul::cuda {

/// Arrays that go to a device in one copy, and room behind them: handed out one after the other, aligned to cache lines
/// as the base is. What is handed out are addresses of the device, where the arrays will lie.
class DeviceRoom {
 public:
  static constexpr std::size_t alignment = 64;

  /// @param base  of the device's memory; null: to learn how much is wanted
  explicit DeviceRoom(std::byte* base) : base_(reinterpret_cast<std::uintptr_t>(base)) {}

  template <class T>
  requires(std::is_trivially_copyable_v<T> && alignof(T) <= alignment)
      [[nodiscard]] const T* add(std::span<const T> values) {
    const std::size_t at = filled_.size();
    filled_.resize(padded(at + values.size_bytes()));
    if (!values.empty()) std::memcpy(filled_.data() + at, values.data(), values.size_bytes());
    return reinterpret_cast<const T*>(base_ + at);
  }
  template <class T>
  [[nodiscard]] const T* add(const std::vector<T>& values) {
    return add(std::span<const T>(values));
  }
  /// Room for so many values, behind all arrays: nothing can be added any more.
  template <class T>
  [[nodiscard]] T* reserve(std::size_t count) {
    if (reserved_ == 0) reserved_ = filled_.size();
    const std::size_t at = reserved_;
    reserved_ = padded(at + count * sizeof(T));
    return reinterpret_cast<T*>(base_ + at);
  }

  /// What is to be copied to the base.
  [[nodiscard]] std::span<const std::byte> filled() const noexcept { return filled_; }
  /// Bytes that all of it takes.
  [[nodiscard]] std::size_t size() const noexcept { return reserved_ == 0 ? filled_.size() : reserved_; }

 private:
  [[nodiscard]] static constexpr std::size_t padded(std::size_t bytes) noexcept {
    return (bytes + alignment - 1) / alignment * alignment;
  }

  std::uintptr_t base_;
  std::vector<std::byte> filled_;
  std::size_t reserved_ = 0;
};

}  // namespace krul::cuda
