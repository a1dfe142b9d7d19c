#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "krul/core/byte_io.hpp"
#include "krul/core/file_io.hpp"
#include "krul/eval/greedy_text.hpp"

namespace krul::eval {

/// A conversation whose user comes back, and how it goes on if nothing was ever saved.
struct ReturningText {
  std::string id;
  std::vector<Token> tokens = {};  ///< the history, and what the user comes back with
  std::size_t history = 0;         ///< of them, saved
  GreedyText reference = {};       ///< what follows them
};

/// Writes a text for another process of this machine.
/// @return as write_file
[[nodiscard]] inline Status write_returning(const std::filesystem::path& file, const ReturningText& text) {
  ByteWriter writer;
  writer.number<std::uint64_t>(text.history);
  const auto write = [&](const auto& values) {
    writer.number<std::uint64_t>(values.size());
    writer.raw(std::as_bytes(std::span(values)));
  };
  write(text.id);
  write(text.tokens);
  write(text.reference.tokens);
  write(text.reference.logits);
  const auto& bytes = writer.bytes();
  return write_file(file, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

/// What write_returning wrote.
/// @return truncated if it is anything else; as read_text
[[nodiscard]] inline Result<ReturningText> read_returning(const std::filesystem::path& file) {
  const auto bytes = read_text(file, std::numeric_limits<std::size_t>::max());
  if (!bytes) return propagate(bytes);
  ByteReader reader(std::as_bytes(std::span(*bytes)));
  ReturningText text;
  text.history = static_cast<std::size_t>(reader.number<std::uint64_t>());
  const auto read = [&](auto& values) {
    using Value = typename std::remove_reference_t<decltype(values)>::value_type;
    const auto found = reader.take(reader.number<std::uint64_t>(), sizeof(Value));
    values.resize(found.size() / sizeof(Value));
    if (!found.empty()) std::memcpy(values.data(), found.data(), found.size());
  };
  read(text.id);
  read(text.tokens);
  read(text.reference.tokens);
  read(text.reference.logits);
  if (!reader.finished()) return fail(ErrorCode::truncated, file.string() + " holds no conversation that comes back");
  return text;
}

}  // namespace krul::eval
