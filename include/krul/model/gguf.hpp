#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/model/dequantize.hpp"
#include "krul/model/gguf_type.hpp"

namespace krul {

/// One tensor of a model file. Views into the file: valid as long as the GgufFile lives.
struct GgufTensor {
  std::string_view name;  ///< "blk.0.attn_q.weight"
  GgufType type = GgufType::f32;
  std::vector<std::uint64_t> shape;  ///< 1 to 4 dimensions, the fastest first: a matrix is [columns, rows]
  std::span<const std::byte> data;   ///< values() / block_values(type) blocks; begins at a multiple of the alignment

  /// Product of the shape.
  [[nodiscard]] std::uint64_t values() const noexcept {
    std::uint64_t product = 1;
    for (const auto extent : shape) product *= extent;
    return product;
  }
};

/// A model file, or the several files of one model, in GGUF version 2 or 3, little-endian, mapped read-only: opening
/// reads the header alone. All counts, lengths and offsets are checked against the file before they are used, so that
/// an opened file is safe to read from; the values of tensors are not looked at. The file must not be shortened while
/// it is open. Const use is safe from several threads.
class GgufFile {
 public:
  /// Fails with not_found; corrupt (not a GGUF file, or a damaged one); truncated; too_large; unsupported (a type of
  /// tensor that krul does not read, named); unsupported_version; invalid_argument (a directory); io.
  /// Of a model that was split, `path` is the first file, as NAME-00001-of-00003.gguf, and the others lie beside it;
  /// invalid_argument if it is another one, which names the first, or not named like this.
  /// @post every tensor's data lies inside the file and behind its header; names and keys are unique
  [[nodiscard]] static Result<GgufFile> open(const std::filesystem::path& path);

  /// The same from bytes that the caller keeps alive and unchanged; `path` is what messages say. unsupported if they
  /// are a part of a model.
  [[nodiscard]] static Result<GgufFile> from_memory(std::span<const std::byte> bytes, std::string path);

  /// In the order of the file, and of the files.
  [[nodiscard]] std::span<const GgufTensor> tensors() const noexcept { return tensors_; }
  /// The tensor of that name, or nullptr.
  [[nodiscard]] const GgufTensor* find(std::string_view name) const;

  [[nodiscard]] bool has(std::string_view key) const { return entry_of_.contains(key); }
  /// All of the metadata's keys, sorted.
  [[nodiscard]] std::vector<std::string_view> keys() const;

  /// Values of the file's metadata. Each fails with not_found if there is no such key, corrupt if its value is not of
  /// the kind asked for or not representable. Views are valid as long as the GgufFile lives.
  /// @{
  [[nodiscard]] Result<std::uint64_t> unsigned_value(std::string_view key) const;  ///< any integer type, >= 0
  [[nodiscard]] Result<double> real_value(std::string_view key) const;             ///< any number
  [[nodiscard]] Result<bool> bool_value(std::string_view key) const;
  [[nodiscard]] Result<std::string_view> string_value(std::string_view key) const;
  [[nodiscard]] Result<std::vector<std::string_view>> string_array(std::string_view key) const;
  [[nodiscard]] Result<std::vector<std::int64_t>> integer_array(std::string_view key) const;  ///< integers or booleans
  /// @}

  /// A value as it lies in the file; none if there is no such key.
  [[nodiscard]] std::span<const std::byte> value_bytes(std::string_view key) const;

  /// The whole file, the first of several.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
  /// The files behind the first, where a model was split.
  [[nodiscard]] std::span<const GgufFile> more_files() const noexcept { return more_files_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  struct Unmap {
    std::size_t size;
    void operator()(const std::byte* mapping) const noexcept;
  };

  /// One checked key and value. An array's `value` begins with its first element.
  struct Entry {
    std::uint32_t type = 0;  ///< of the value, or of an array's elements
    bool array = false;
    std::uint64_t count = 1;
    std::span<const std::byte> value;
  };

  GgufFile(std::span<const std::byte> bytes, std::string path) : bytes_(bytes), path_(std::move(path)) {}
  [[nodiscard]] static Result<GgufFile> open_one(const std::filesystem::path& path);
  [[nodiscard]] Status parse();
  [[nodiscard]] Status join_files();
  [[nodiscard]] Result<std::uint64_t> split_count() const;
  [[nodiscard]] Result<Entry> entry(std::string_view key, bool array, std::string_view wanted) const;
  tl::unexpected<Error> wrong_kind(std::string_view key, std::string_view wanted) const;

  std::unique_ptr<const std::byte, Unmap> mapping_;
  std::span<const std::byte> bytes_;
  std::string path_;
  std::vector<GgufFile> more_files_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, std::size_t> tensor_of_;
  std::unordered_map<std::string_view, Entry> entry_of_;
};

}  // namespace krul
