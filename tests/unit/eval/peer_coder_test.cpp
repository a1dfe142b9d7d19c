#include "krul/eval/peer_coder.hpp"

#include <doctest/doctest.h>

#include "support/history_samples.hpp"

namespace krul::eval {
namespace {

TEST_CASE("coders are known by their names, and code as they do by themselves") {
  const Geometry geometry = testing::history_geometry();
  const HistoryRows rows = testing::history_rows(geometry, 70, 1);
  auto basis = std::make_shared<KvtcBasis>();
  basis->keys.mean.resize(80);
  basis->values.mean.resize(80);
  std::size_t asked = 0;
  const auto source = [&] {
    ++asked;
    return std::shared_ptr<const KvtcBasis>(basis);
  };
  for (const char* name : {"q4_0", "kivi-2", "kivi-3", "kivi-8", "kvtc-8", "kvtc-12-w0"}) {
    const auto coder = PeerCoder::named(name, source);
    REQUIRE(coder);
    CHECK(coder->name() == name);
    const auto bytes = coder->encode(geometry, rows);
    CHECK(coder->decode(geometry, bytes).tokens == 70);
  }
  CHECK(asked == 2);
  CHECK(PeerCoder::named("kivi-3", source)->encode(geometry, rows) == KiviCoder(3).encode(geometry, rows));
  for (const char* name :
       {"", "kivi", "kivi-0", "kivi-9", "kivi-x", "kvtc-", "kvtc-0", "kvtc--w0", "kvtc-4-w1", "q4_1"}) {
    const auto coder = PeerCoder::named(name, source);
    REQUIRE(!coder);
    CHECK(coder.error().code == ErrorCode::invalid_argument);
    CHECK(coder.error().message.find("kivi-BITS") != std::string::npos);
  }
}

}  // namespace
}  // namespace krul::eval
