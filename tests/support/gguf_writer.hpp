#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/core/half.hpp"
#include "krul/model/gguf_type.hpp"

namespace krul::testing {

/// Bytes as a GGUF file wants them: little-endian numbers, strings after their 64-bit length.
class ByteWriter {
 public:
  template <class T>
  requires std::is_arithmetic_v<T>
  void put(T value) {
    const auto* first = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), first, first + sizeof value);
  }
  void put_raw(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  void put_raw(std::string_view text) { put_raw(std::as_bytes(std::span(text))); }
  void put(std::string_view text) {
    put(static_cast<std::uint64_t>(text.size()));
    put_raw(text);
  }
  void align(std::size_t alignment) { bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment); }

  [[nodiscard]] const std::vector<std::byte>& bytes() const noexcept { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

/// The format's number for the kind of a metadata value.
template <class T>
constexpr std::uint32_t gguf_kind() {
  if constexpr (std::is_same_v<T, std::uint8_t>) return 0;
  if constexpr (std::is_same_v<T, std::int8_t>) return 1;
  if constexpr (std::is_same_v<T, std::uint16_t>) return 2;
  if constexpr (std::is_same_v<T, std::int16_t>) return 3;
  if constexpr (std::is_same_v<T, std::uint32_t>) return 4;
  if constexpr (std::is_same_v<T, std::int32_t>) return 5;
  if constexpr (std::is_same_v<T, float>) return 6;
  if constexpr (std::is_same_v<T, bool>) return 7;
  if constexpr (std::is_convertible_v<T, std::string_view>) return 8;
  if constexpr (std::is_same_v<T, std::uint64_t>) return 10;
  if constexpr (std::is_same_v<T, std::int64_t>) return 11;
  if constexpr (std::is_same_v<T, double>) return 12;
  return 0xffffffffU;
}

/// Codes floats the plain way: scale by the largest value (q8_0), or the range in 15 steps (q4_1).
/// @throws PreconditionError for types that it does not write, or values that are no whole number of blocks
[[nodiscard]] inline std::vector<std::byte> quantize(GgufType type, std::span<const float> values) {
  expects(values.size() % block_values(type) == 0, "quantize: not a whole number of blocks");
  ByteWriter to;
  if (type == GgufType::f32) {
    to.put_raw(std::as_bytes(values));
  } else if (type == GgufType::f16 || type == GgufType::bf16) {
    for (const float value : values) to.put(type == GgufType::f16 ? f16_from_float(value) : bf16_from_float(value));
  } else if (type == GgufType::q8_0) {
    for (std::size_t at = 0; at < values.size(); at += 32) {
      const auto block = values.subspan(at, 32);
      float largest = 0;
      for (const float value : block) largest = std::max(largest, std::abs(value));
      const auto scale = f16_from_float(largest / 127);
      const float step = float_from_f16(scale);
      to.put(scale);
      for (const float value : block)
        to.put(static_cast<std::int8_t>(step > 0 ? std::clamp(std::round(value / step), -127.0F, 127.0F) : 0));
    }
  } else if (type == GgufType::q4_1) {
    for (std::size_t at = 0; at < values.size(); at += 32) {
      const auto block = values.subspan(at, 32);
      const auto [smallest, largest] = std::minmax_element(block.begin(), block.end());
      const auto scale = f16_from_float((*largest - *smallest) / 15);
      const auto minimum = f16_from_float(*smallest);
      const float step = float_from_f16(scale);
      const auto code = [&](float value) {
        return step > 0 ? static_cast<unsigned>(
                              std::clamp(std::round((value - float_from_f16(minimum)) / step), 0.0F, 15.0F))
                        : 0U;
      };
      to.put(scale);
      to.put(minimum);
      for (std::size_t j = 0; j < 16; ++j) to.put(static_cast<std::uint8_t>(code(block[j]) | code(block[j + 16]) << 4));
    }
  } else {
    throw PreconditionError("quantize: only f32, f16, bf16, q8_0 and q4_1 are written");
  }
  return to.bytes();
}

/// Makes GGUF version 3 files for tests.
class GgufWriter {
 public:
  explicit GgufWriter(std::uint32_t alignment = 32) : alignment_(alignment) {
    if (alignment != 32) set("general.alignment", alignment);
  }

  /// A number, boolean or string; its C++ type decides the kind.
  template <class T>
  void set(std::string_view key, const T& value) {
    static_assert(gguf_kind<T>() <= 12);
    begin_entry(key, gguf_kind<T>());
    put_value(value);
  }
  /// An array of them.
  template <class T>
  void set(std::string_view key, const std::vector<T>& values) {
    static_assert(gguf_kind<T>() <= 12);
    begin_entry(key, 9);
    entries_.put(gguf_kind<T>());
    entries_.put(static_cast<std::uint64_t>(values.size()));
    for (const auto& value : values) put_value<T>(value);
  }

  /// @param shape  fastest dimension first
  void add_tensor(std::string_view name, const std::vector<std::uint64_t>& shape, GgufType type,
                  std::span<const std::byte> blocks) {
    tensors_.push_back({std::string(name), shape, type, {blocks.begin(), blocks.end()}});
  }
  /// The same from floats, coded as `type`.
  void add_tensor(std::string_view name, const std::vector<std::uint64_t>& shape, GgufType type,
                  std::span<const float> values) {
    add_tensor(name, shape, type, std::span<const std::byte>(quantize(type, values)));
  }

  [[nodiscard]] std::vector<std::byte> bytes() const { return with_tensors(tensors_); }

  /// The same as `count` files: the keys are in the first, tensors in all.
  [[nodiscard]] std::vector<std::vector<std::byte>> split(std::uint16_t count) const {
    std::vector<std::vector<std::byte>> files;
    for (std::uint16_t i = 0; i < count; ++i) {
      GgufWriter part = i == 0 ? *this : GgufWriter(alignment_);
      part.set("split.no", i);
      part.set("split.count", count);
      part.set("split.tensors.count", static_cast<std::int32_t>(tensors_.size()));
      const auto at = [&](std::size_t file) {
        return tensors_.begin() + static_cast<std::ptrdiff_t>(file * tensors_.size() / count);
      };
      files.push_back(part.with_tensors({at(i), at(i + std::size_t{1})}));
    }
    return files;
  }

 private:
  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> shape;
    GgufType type;
    std::vector<std::byte> blocks;
  };

  [[nodiscard]] std::vector<std::byte> with_tensors(const std::vector<Tensor>& tensors) const {
    ByteWriter heads, data;
    for (const auto& tensor : tensors) {
      heads.put(std::string_view(tensor.name));
      heads.put(static_cast<std::uint32_t>(tensor.shape.size()));
      for (const auto extent : tensor.shape) heads.put(extent);
      heads.put(static_cast<std::uint32_t>(tensor.type));
      data.align(alignment_);
      heads.put(static_cast<std::uint64_t>(data.bytes().size()));
      data.put_raw(tensor.blocks);
    }
    ByteWriter file;
    file.put_raw("GGUF");
    file.put(std::uint32_t{3});
    file.put(static_cast<std::uint64_t>(tensors.size()));
    file.put(entry_count_);
    file.put_raw(entries_.bytes());
    file.put_raw(heads.bytes());
    file.align(alignment_);
    file.put_raw(data.bytes());
    return file.bytes();
  }

  void begin_entry(std::string_view key, std::uint32_t kind) {
    entries_.put(key);
    entries_.put(kind);
    ++entry_count_;
  }
  template <class T>
  void put_value(const T& value) {
    if constexpr (std::is_convertible_v<T, std::string_view>)
      entries_.put(std::string_view(value));
    else
      entries_.put(value);
  }

  std::uint32_t alignment_;
  std::uint64_t entry_count_ = 0;
  ByteWriter entries_;
  std::vector<Tensor> tensors_;
};

/// @throws PreconditionError if the file cannot be written
inline void write_file(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  expects(file.good(), "write_file: the file cannot be written");
}

}  // namespace krul::testing
