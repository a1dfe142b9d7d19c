#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "krul/core/error.hpp"

namespace krul {

/// Bytes of a file that is read as a whole, at most, unless the caller says otherwise.
inline constexpr std::size_t largest_text = 64U << 20;

/// The whole of a file or of a pipe.
/// @param most  bytes
/// @return      not_found or io, with the system's reason, if it cannot be read; too_large if it holds more
[[nodiscard]] Result<std::string> read_text(const std::filesystem::path& path, std::size_t most = largest_text);

/// A file that is written from its beginning. What goes wrong in between is told when it is closed, with the system's
/// reason: what was computed comes first.
class OutputFile {
 public:
  /// @param name  what errors call it; empty: its path
  /// @return no_space or io if it cannot be opened for writing
  [[nodiscard]] static Result<OutputFile> open(const std::filesystem::path& path, std::string name = {});

  /// Nothing more is written once something has gone wrong.
  void write(std::string_view bytes);
  /// @return no_space or io if not all of it could be written
  [[nodiscard]] Status close();

 private:
  OutputFile(std::string path, std::FILE* file) : path_(std::move(path)), file_(file, std::fclose) {}
  void note_failure();

  std::string path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  int failure_ = 0;  ///< the system's number for the first one
};

/// Writes a whole file, in place of what is there.
/// @return as OutputFile
[[nodiscard]] Status write_file(const std::filesystem::path& path, std::string_view bytes);

/// The same, whole or not at all: nobody reads half of it, and after a failure what was there still is.
/// @return as OutputFile
[[nodiscard]] Status replace_file(const std::filesystem::path& path, std::string_view bytes);

}  // namespace krul
