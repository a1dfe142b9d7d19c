#include "krul/core/file_io.hpp"

#include <doctest/doctest.h>

#include "support/temporary_directory.hpp"

namespace krul {
namespace {

TEST_CASE("what was written to a file is read again, all of it or nothing") {
  const test::TemporaryDirectory directory;
  const auto file = directory.path() / "file";
  const std::string text("a\0\n", 3);
  REQUIRE(write_file(file, text));
  CHECK(read_text(file).value() == text);
  CHECK(read_text(file, 3).value() == text);
  CHECK(read_text(file, 2).error().code == ErrorCode::too_large);
  REQUIRE(write_file(file, ""));
  CHECK(read_text(file).value().empty());
}

TEST_CASE("why a file cannot be read or written is the system's reason, with its name") {
  const test::TemporaryDirectory directory;
  const auto missing = directory.path() / "none" / "file";
  CHECK(read_text(missing).error().code == ErrorCode::not_found);
  CHECK(read_text(directory.path()).error().code == ErrorCode::io);
  const auto refused = write_file(missing, "x");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::io);
  CHECK(refused.error().message.find(missing.string()) != std::string::npos);
}

TEST_CASE("a file is replaced whole, or stays as it was, and nothing is left beside it") {
  const test::TemporaryDirectory directory;
  const auto file = directory.path() / "file";
  REQUIRE(replace_file(file, "first"));
  REQUIRE(replace_file(file, "second"));
  CHECK(read_text(file).value() == "second");
  const auto only = [&] { return std::distance(std::filesystem::directory_iterator(directory.path()), {}) == 1; };
  CHECK(only());
  const auto into_folder = replace_file(directory.path(), "x");
  REQUIRE_FALSE(into_folder);
  CHECK(into_folder.error().code == ErrorCode::io);
  CHECK(only());
  const auto missing = directory.path() / "none" / "file";
  const auto refused = replace_file(missing, "x");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("cannot write " + missing.string() + ": ") == 0);
}

TEST_CASE("what a write failed with is told when the file is closed") {
  auto full = OutputFile::open("/dev/full");
  if (!full) return;  // not on every system
  full->write(std::string(1 << 20, 'x'));
  full->write("more");
  const auto closed = full->close();
  REQUIRE_FALSE(closed);
  CHECK(closed.error().code == ErrorCode::no_space);
}

}  // namespace
}  // namespace krul
