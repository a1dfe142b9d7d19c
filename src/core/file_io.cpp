#include "krul/core/file_io.hpp"

#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace krul {
namespace {

Error not_written(const std::string& path, int number) {
  const bool is_full = number == ENOSPC || number == EDQUOT || number == EFBIG;
  return {is_full ? ErrorCode::no_space : ErrorCode::io,
          "cannot write " + path + ": " + std::generic_category().message(number)};
}

}  // namespace

Result<std::string> read_text(const std::filesystem::path& path, std::size_t most) {
  const auto unreadable = [&] {
    const int number = errno;
    return fail(number == ENOENT ? ErrorCode::not_found : ErrorCode::io,
                "cannot read " + path.string() + ": " + std::generic_category().message(number));
  };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"), std::fclose);
  if (!file) return unreadable();
  std::string text;
  char piece[1 << 16];
  while (const std::size_t got = std::fread(piece, 1, sizeof piece, file.get())) {
    text.append(piece, got);
    if (text.size() > most)
      return fail(ErrorCode::too_large, path.string() + " is larger than " + std::to_string(most >> 20) + " MiB");
  }
  if (std::ferror(file.get())) return unreadable();
  return text;
}

Result<OutputFile> OutputFile::open(const std::filesystem::path& path, std::string name) {
  if (name.empty()) name = path.string();
  std::FILE* const file = std::fopen(path.c_str(), "wbe");
  if (!file) return tl::unexpected<Error>(not_written(name, errno));
  return OutputFile(std::move(name), file);
}

void OutputFile::write(std::string_view bytes) {
  if (failure_ == 0 && std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) note_failure();
}

Status OutputFile::close() {
  if (std::fclose(file_.release()) != 0 && failure_ == 0) note_failure();
  if (failure_ != 0) return tl::unexpected<Error>(not_written(path_, failure_));
  return {};
}

void OutputFile::note_failure() {
  failure_ = errno != 0 ? errno : EIO;
}

Status write_file(const std::filesystem::path& path, std::string_view bytes) {
  auto file = OutputFile::open(path);
  if (!file) return propagate(file);
  file->write(bytes);
  return file->close();
}

Status replace_file(const std::filesystem::path& path, std::string_view bytes) {
  // Another process may be writing its own at the same time.
  const std::filesystem::path next = path.string() + "." + std::to_string(::getpid()) + ".new";
  auto file = OutputFile::open(next, path.string());
  if (!file) return propagate(file);
  file->write(bytes);
  Status written = file->close();
  std::error_code error;
  if (written) std::filesystem::rename(next, path, error);
  if (error) written = tl::unexpected<Error>(not_written(path.string(), error.value()));
  if (!written) std::filesystem::remove(next, error);
  return written;
}

}  // namespace krul
