#include "krul/compress/joint/profile.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "damaged_bytes.hpp"
#include "krul/compress/joint_transform.hpp"
#include "krul/core/checksum.hpp"
#include "krul/core/half.hpp"
#include "memory_limit.hpp"
#include "support/profile_samples.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

/// Makes the checksum at a profile's end right again.
void mend(std::vector<std::byte>& profile) {
  const Checksum right = checksum(std::span(profile).first(profile.size() - sizeof(Checksum)));
  std::ranges::copy(std::as_bytes(std::span(right)), profile.end() - sizeof(Checksum));
}

/// Whether bytes are a profile of a geometry, which then codes rows and decodes them.
bool is_profile(std::span<const std::byte> bytes, const Geometry& geometry) {
  auto data = parse_profile(bytes);
  if (!data) {
    CHECK_FALSE(data.error().message.empty());
    return false;
  }
  const auto profile = Profile::create(std::move(*data), geometry);
  if (!profile) {
    CHECK_FALSE(profile.error().message.empty());
    return false;
  }
  constexpr std::size_t tokens = 20;
  const std::vector<float> features(tokens * (*profile)->data().features, 0.5F);
  std::vector<float> values(tokens * geometry.kv_values());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 7) - 3;
  std::vector<std::byte> rows(tokens * geometry.kv_row_bytes());
  from_float(geometry.cache_type, values, rows);
  for (std::size_t group = 0; group < (*profile)->data().groups.size(); ++group) {
    const JointTransform coding(*profile, group);
    const std::vector<KvRows> from(coding.layers(), KvRows{rows, rows});
    const auto chunk = coding.encode(geometry, from, {64, features});
    std::vector<std::vector<std::byte>> room(2 * coding.layers(), rows);
    std::vector<MutableKvRows> to;
    for (std::size_t layer = 0; layer < coding.layers(); ++layer) to.push_back({room[2 * layer], room[2 * layer + 1]});
    CHECK(coding.decode(geometry, chunk, to, {64, features}));
  }
  return true;
}

}  // namespace

TEST_CASE("a damaged profile is refused, whether its checksum is right or not, or codes: within a gibibyte") {
  const Geometry geometry = profile_geometry(ElementType::f16);
  const auto bytes = serialize(random_profile(geometry, {1, 3}, 6, 32, 5));
  REQUIRE(is_profile(bytes, geometry));
  const MemoryLimit limit(std::size_t{1} << 30);
  std::size_t coded = 0;
  each_damaged(bytes, {.flips = 250, .truncations = 100},
               [&](std::vector<std::byte> changed) { CHECK_FALSE(is_profile(changed, geometry)); });
  each_damaged(bytes, {.flips = 250, .truncations = 100, .header = 200}, [&](std::vector<std::byte> changed) {
    if (changed.size() < 2 * sizeof(Checksum)) return;
    mend(changed);
    REQUIRE_NOTHROW(coded += is_profile(changed, geometry));
  });
  CHECK(coded > 0);  // most bits are a number that may be another one
}
