#include "output_file.hpp"

#include <cerrno>
#include <system_error>

#include "tool.hpp"

namespace krul::cli {
namespace {

Failure not_written(const std::string& path, int number) {
  const bool is_full = number == ENOSPC || number == EDQUOT || number == EFBIG;
  return Failure({is_full ? ErrorCode::no_space : ErrorCode::io,
                  "cannot write " + path + ": " + std::generic_category().message(number)});
}

}  // namespace

OutputFile::OutputFile(const std::filesystem::path& path)
    : path_(path.string()), file_(std::fopen(path.c_str(), "wbe"), std::fclose) {
  if (!file_) throw not_written(path_, errno);
}

void OutputFile::write(std::string_view bytes) {
  if (failure_ == 0 && std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) note_failure();
}

void OutputFile::close() {
  if (std::fclose(file_.release()) != 0 && failure_ == 0) note_failure();
  if (failure_ != 0) throw not_written(path_, failure_);
}

void OutputFile::note_failure() {
  failure_ = errno != 0 ? errno : EIO;
}

void write_file(const std::filesystem::path& path, std::string_view bytes) {
  OutputFile file(path);
  file.write(bytes);
  file.close();
}

}  // namespace krul::cli
