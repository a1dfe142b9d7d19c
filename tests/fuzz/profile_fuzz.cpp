// Hostile profiles, as they are and with a checksum that fits. One that is accepted has to code rows and decode them.
#include "fuzz_target.hpp"
#include "krul/compress/joint_transform.hpp"
#include "krul/core/half.hpp"
#include "sealed.hpp"
#include "support/profile_samples.hpp"

namespace krul::fuzz {
namespace {

Geometry small_profile_geometry() {
  Geometry geometry;
  geometry.layers = 2;
  geometry.query_heads = 2;
  geometry.kv_heads = 1;
  geometry.head_dim = 4;
  geometry.hidden = 8;
  geometry.vocabulary = 16;
  geometry.context = 64;
  geometry.cache_type = ElementType::f16;
  geometry.rotary = {.pairs = RotaryPairs::interleaved, .dimensions = 4, .base = 10000};
  return geometry;
}

void check_profile(std::span<const std::byte> bytes) {
  auto data = parse_profile(bytes);
  if (!accepted(data)) return;
  const Bytes written = serialize(*data);  // compared as bytes: some numbers are none, and equal to nothing
  require(serialize(parse_profile(written).value()) == written, "a profile is not read as it was written");
  const Geometry geometry = small_profile_geometry();
  const auto profile = Profile::create(std::move(*data), geometry);
  if (!accepted(profile)) return;
  constexpr std::size_t tokens = 5;
  const std::vector<float> features(tokens * (*profile)->data().features, 0.5F);
  std::vector<float> values(tokens * geometry.kv_values());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 7) - 3;
  Bytes rows(tokens * geometry.kv_row_bytes());
  from_float(geometry.cache_type, values, rows);
  for (std::size_t group = 0; group < (*profile)->data().groups.size(); ++group) {
    const JointTransform coding(*profile, group);
    const std::vector<KvRows> from(coding.layers(), KvRows{rows, rows});
    const auto chunk = coding.encode(geometry, from, {64, features});
    require(chunk.size() <= coding.largest_bytes(geometry, tokens), "a chunk is larger than chunks are");
    std::vector<Bytes> room(2 * coding.layers(), rows);
    std::vector<MutableKvRows> to;
    for (std::size_t layer = 0; layer < coding.layers(); ++layer) to.push_back({room[2 * layer], room[2 * layer + 1]});
    require(coding.decode(geometry, chunk, to, {64, features}).has_value(), "a profile cannot decode its own chunk");
  }
}

void read_profile(std::span<const std::byte> input) {
  Bytes bytes(input.begin(), input.end());
  check_profile(bytes);
  if (bytes.size() < sizeof(Checksum)) return;
  seal_end(bytes);
  check_profile(bytes);
}

std::vector<Bytes> profile_seeds() {
  const Geometry geometry = small_profile_geometry();
  return {serialize(testing::random_profile(geometry, {1, 1}, 3, 8, 5)),
          serialize(testing::random_profile(geometry, {2}, 3, 0, 6))};
}

}  // namespace

Target profile_target() {
  return {"profile", read_profile, profile_seeds};
}

}  // namespace krul::fuzz
