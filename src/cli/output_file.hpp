#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace krul::cli {

/// A file that is written from its beginning. What goes wrong in between is told when it is closed, with the system's
/// reason: what was measured comes first.
class OutputFile {
 public:
  /// Ends the program if it cannot be opened for writing.
  explicit OutputFile(const std::filesystem::path& path);

  void write(std::string_view bytes);
  /// Ends the program if not all of it could be written.
  void close();

 private:
  void note_failure();

  std::string path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  int failure_ = 0;  ///< the system's number for the first one
};

/// Writes a whole file; ends the program if that is not possible.
void write_file(const std::filesystem::path& path, std::string_view bytes);

}  // namespace krul::cli
