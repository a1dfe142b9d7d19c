#include "krul/eval/link_name.hpp"

#include <doctest/doctest.h>

namespace krul::eval {
namespace {

TEST_CASE("links are named by what they are, by a rate or by what it takes to recompute") {
  CHECK(parse_link("disk")->kind == LinkName::Kind::disk);
  CHECK(parse_link("memory")->kind == LinkName::Kind::memory);
  CHECK_FALSE(parse_link("memory")->to_device);
  CHECK(parse_link("pcie")->kind == LinkName::Kind::memory);
  CHECK(parse_link("pcie")->text == "pcie");
  CHECK(parse_link("pcie")->to_device);
  CHECK(parse_link("1kB/s")->bytes_per_s == 1e3);
  CHECK(parse_link("2.5MB/s")->bytes_per_s == 2.5e6);
  CHECK(parse_link("1000GB/s")->bytes_per_s == 1e12);
  CHECK(parse_link("1kB/s")->latency_s == throttled_latency_s);
  CHECK(parse_link("100MB/s+20ms")->bytes_per_s == 1e8);
  CHECK(parse_link("100MB/s+20ms")->latency_s == doctest::Approx(0.02));
  CHECK(parse_link("100MB/s+0ms")->latency_s == 0);
  CHECK(parse_link("1.3x")->factor == 1.3);
  for (const char* text : {"", "Disk", "100", "MB/s", "-1MB/s", "nanMB/s", "0.5kB/s", "1001GB/s", "0x", "101x", "1x ",
                           "1MB/s+", "1MB/s+2", "1MB/s+-1ms", "1MB/s+2s", "1MB/s+1001ms", "1MB/s+2ms ", "1.3x+2ms"}) {
    CAPTURE(text);
    const auto refused = parse_link(text);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::invalid_argument);
  }
}

TEST_CASE("lists of links keep their order and refuse what any of them is refused for") {
  const auto links = parse_links("50MB/s,disk,1.3x");
  REQUIRE(links);
  CHECK(links->size() == 3);
  CHECK((*links)[1].text == "disk");
  CHECK_FALSE(parse_links(""));
  CHECK_FALSE(parse_links("disk,tape"));
}

}  // namespace
}  // namespace krul::eval
