#include "krul/core/byte_io.hpp"

#include <doctest/doctest.h>

#include <limits>

using namespace krul;

TEST_CASE("what is written is read again, the least significant byte first") {
  ByteWriter writer;
  writer.number(std::uint32_t{0x04030201});
  writer.raw("ab");
  writer.number(std::uint64_t{7});
  REQUIRE(writer.bytes().size() == 4 + 2 + 8);
  CHECK(writer.bytes()[0] == std::byte{1});
  ByteReader reader(writer.bytes());
  CHECK(reader.number<std::uint32_t>() == 0x04030201);
  CHECK(reader.take(2).size() == 2);
  CHECK_FALSE(reader.finished());
  CHECK(reader.number<std::uint64_t>() == 7);
  CHECK(reader.finished());
}

TEST_CASE("after a read that does not fit, everything is 0 or empty") {
  const std::vector<std::byte> bytes(6, std::byte{1});
  ByteReader reader(bytes);
  CHECK(reader.number<std::uint64_t>() == 0);
  CHECK(reader.failed());
  CHECK(reader.number<std::uint8_t>() == 0);
  CHECK(reader.rest().empty());
  CHECK_FALSE(reader.finished());
}

TEST_CASE("no count of things overflows") {
  const std::vector<std::byte> bytes(8);
  CHECK(ByteReader(bytes).take(2, 4).size() == 8);
  for (const std::uint64_t count : {std::uint64_t{3}, std::numeric_limits<std::uint64_t>::max() / 4 + 1,
                                    std::numeric_limits<std::uint64_t>::max()}) {
    ByteReader reader(bytes);
    CHECK(reader.take(count, 4).empty());
    CHECK(reader.failed());
  }
}
