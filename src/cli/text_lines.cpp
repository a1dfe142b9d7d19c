#include "text_lines.hpp"

#include <cerrno>
#include <system_error>

namespace krul::cli {

Result<std::optional<std::string>> next_line(std::FILE* from) {
  std::string line;
  int byte = 0;
  while ((byte = std::getc(from)) != EOF && byte != '\n') {
    if (line.size() == largest_text) return fail(ErrorCode::too_large, "a line is longer than 64 MiB");
    line += static_cast<char>(byte);
  }
  if (byte == EOF && std::ferror(from))
    return fail(ErrorCode::io, "standard input cannot be read: " + std::generic_category().message(errno));
  if (byte == EOF && line.empty()) return std::nullopt;
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

}  // namespace krul::cli
