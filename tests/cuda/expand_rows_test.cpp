#include "krul/cuda/kernels/expand_rows.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "cuda/cache_types.hpp"
#include "cuda/fibre_grid.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int4_codec.hpp"
#include "krul/compress/int8_codec.hpp"

using namespace krul;
using cuda::CodedHeads, cuda::ExpandFloat, cuda::ExpandInt4, cuda::ExpandInt8;

namespace {

/// Rows of odd shapes, larger than a warp and not whole ones.
struct Rows {
  Geometry geometry;
  std::size_t count;
  std::vector<std::byte> bytes;

  Rows(ElementType type, std::mt19937_64& random) : count(1 + random() % 9) {
    geometry = {.layers = 1, .kv_heads = 1 + random() % 5, .head_dim = 1 + random() % 150, .cache_type = type};
    std::vector<float> values(count * geometry.kv_values());
    std::normal_distribution<float> value(0, std::exp2(static_cast<float>(random() % 20) - 10));
    for (float& each : values) each = random() % 50 == 0 ? 0.0F : value(random);
    if (random() % 5 == 0) values[random() % values.size()] = std::numeric_limits<float>::quiet_NaN();
    if (random() % 5 == 0) std::fill_n(values.begin(), geometry.head_dim, 0.0F);
    bytes.resize(values.size() * size_of(type));
    from_float(type, values, bytes);
  }
  [[nodiscard]] std::uint32_t heads() const { return static_cast<std::uint32_t>(count * geometry.kv_heads); }
};

/// What a device makes of coded rows, and whether it found them sound.
struct Expanded {
  std::vector<std::byte> bytes;
  bool sound;
};

template <class Make>
Expanded expand(const Rows& rows, std::span<const std::byte> coded, std::uint64_t seed, Make make) {
  // As aligned as a cache is.
  std::vector<float> room(rows.bytes.size() / 4 + 1);
  std::uint32_t unsound = 0;
  const CodedHeads heads{rows.geometry.cache_type,
                         coded.data(),
                         room.data(),
                         rows.heads(),
                         static_cast<std::uint32_t>(rows.geometry.head_dim),
                         &unsound};
  cuda::test::run_grid(make(heads), {2, 64}, seed);
  Expanded expanded{std::vector<std::byte>(rows.bytes.size()), unsound == 0};
  std::memcpy(expanded.bytes.data(), room.data(), expanded.bytes.size());
  return expanded;
}

/// Equal bits, but for NaNs, of which one is as good as another.
bool same_values(ElementType type, std::span<const std::byte> a, std::span<const std::byte> b) {
  std::vector<float> left(a.size() / size_of(type)), right(left.size());
  to_float(type, a, left);
  to_float(type, b, right);
  for (std::size_t i = 0; i < left.size(); ++i)
    if (std::bit_cast<std::uint32_t>(left[i]) != std::bit_cast<std::uint32_t>(right[i]) &&
        !(std::isnan(left[i]) && std::isnan(right[i])))
      return false;
  return true;
}

/// Coded, perhaps damaged, and decoded by both.
template <class Codec, class Make>
void check_codec(const Codec& codec, std::uint64_t first_seed, Make make) {
  std::mt19937_64 random(first_seed);
  int damaged = 0;
  for (std::uint64_t round = 0; round < 210; ++round) {
    const Rows rows(cuda::test::cache_types[round % 3], random);
    CAPTURE(round);
    std::vector<std::byte> coded(codec.bytes(rows.geometry, rows.count));
    codec.encode(rows.geometry, rows.bytes, coded);
    if (round % 4 == 3) coded[random() % coded.size()] = static_cast<std::byte>(random());
    std::vector<std::byte> decoded(rows.bytes.size());
    const bool sound = codec.decode(rows.geometry, coded, decoded).has_value();
    const Expanded found = expand(rows, coded, round, make);
    CHECK(found.sound == sound);
    if (sound) CHECK(same_values(rows.geometry.cache_type, found.bytes, decoded));
    damaged += sound ? 0 : 1;
  }
  MESSAGE(damaged << " of 210 were found to be damaged");
}

}  // namespace

TEST_CASE("a device expands rows to the bits of the codecs") {
  check_codec(F16Codec{}, 1, [](const CodedHeads& rows) { return ExpandFloat{rows, ElementType::f16}; });
  check_codec(Bf16Codec{}, 2, [](const CodedHeads& rows) { return ExpandFloat{rows, ElementType::bf16}; });
  check_codec(Int8Codec{}, 3, [](const CodedHeads& rows) { return ExpandInt8{rows}; });
  check_codec(Int4Codec{}, 4, [](const CodedHeads& rows) { return ExpandInt4{rows}; });
}
