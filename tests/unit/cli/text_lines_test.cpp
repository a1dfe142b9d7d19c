#include "text_lines.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <string_view>
#include <vector>

namespace {
using krul::ErrorCode;
using krul::cli::next_line;

using Stream = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

Stream stream_of(std::string_view text) {
  Stream stream(std::tmpfile(), std::fclose);
  REQUIRE(stream);
  REQUIRE(std::fwrite(text.data(), 1, text.size(), stream.get()) == text.size());
  std::rewind(stream.get());
  return stream;
}

std::vector<std::string> lines_of(std::string_view text) {
  const Stream stream = stream_of(text);
  std::vector<std::string> lines;
  for (auto line = next_line(stream.get()).value(); line; line = next_line(stream.get()).value())
    lines.push_back(*line);
  return lines;
}

TEST_CASE("lines end in any of the usual ways, and hold any bytes") {
  using Lines = std::vector<std::string>;
  CHECK(lines_of("").empty());
  CHECK(lines_of("one\ntwo\n") == Lines{"one", "two"});
  CHECK(lines_of("one\r\ntwo") == Lines{"one", "two"});
  CHECK(lines_of("\n\r\none") == Lines{"", "", "one"});
  CHECK(lines_of("a\rb\r\r\n") == Lines{"a\rb\r"});
  CHECK(lines_of({"a\0b\n\xff\n", 6}) == Lines{std::string("a\0b", 3), "\xff"});
}

TEST_CASE("a stream that cannot be read is no end") {
  const Stream folder(std::fopen("/", "r"), std::fclose);
  REQUIRE(folder);
  const auto line = next_line(folder.get());
  REQUIRE_FALSE(line);
  CHECK(line.error().code == ErrorCode::io);
}

TEST_CASE("a line without an end is refused before it fills memory") {
  const Stream zeros(std::fopen("/dev/zero", "r"), std::fclose);
  REQUIRE(zeros);
  const auto line = next_line(zeros.get());
  REQUIRE_FALSE(line);
  CHECK(line.error().code == ErrorCode::too_large);
}

}  // namespace
