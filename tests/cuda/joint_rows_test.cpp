#include "krul/cuda/kernels/joint_rows.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <deque>

#include "cuda/ordered_device.hpp"
#include "krul/compress/joint/step_classes.hpp"
#include "krul/compress/joint_transform.hpp"
#include "krul/cuda/chunk_layout.hpp"
#include "support/profile_samples.hpp"

using namespace krul;
using namespace krul::testing;
using cuda::test::OrderedDevice;
using krul::detail::DecodeOutcome;

namespace {

/// Rows of the cache's type, as aligned as a cache has them.
struct LayerRows {
  std::vector<float> room;
  explicit LayerRows(std::size_t bytes) : room(bytes / 4 + 1) {}
  [[nodiscard]] std::byte* data() { return reinterpret_cast<std::byte*>(room.data()); }
};

/// Brings a chunk back by kernels: all rows but one at position 0.
/// @return [layers, K and V] rows
std::deque<LayerRows> decode_on_device(const std::shared_ptr<const Profile>& profile, std::size_t group,
                                       const Geometry& geometry, const JointChunk& chunk, const BlockContext& context,
                                       std::uint64_t seed) {
  OrderedDevice device(seed);
  cuda::StagingRing<OrderedDevice> ring(device, device.make_stream().value(), {.slots = 2, .slot_bytes = 1 << 16});
  const cuda::DeviceProfile<OrderedDevice> uploaded(device, ring, profile);
  device.finish();
  const std::size_t layers = profile->data().groups[group].layers, all = chunk.rows + (chunk.has_first_row ? 1 : 0);
  std::deque<LayerRows> rows;
  for (std::size_t i = 0; i < 2 * layers; ++i) rows.emplace_back(all * geometry.kv_row_bytes());
  constexpr std::size_t room_bytes = 1 << 19;
  const auto room = device.allocate(room_bytes).value();
  cuda::ChunkTarget target{.room = room.data(),
                           .tensors = {&uploaded.tensor(group, 0), &uploaded.tensor(group, 1)},
                           .tables = uploaded.tables(),
                           .table_count = static_cast<std::uint32_t>(profile->tables().alias_tables().size()),
                           .places = cuda::RowPlaces::contiguous(geometry)};
  for (std::size_t i = 0; i < rows.size(); ++i) target.rows[i % 2].push_back(rows[i].data());
  const auto layout = cuda::ChunkLayout::of(chunk, target, geometry, context.first, context.features);
  REQUIRE(layout.bytes <= room_bytes);
  std::ranges::copy(layout.arrays, layout.arrays_at);
  cuda::test::run_grid(layout.symbols, {1, 32}, seed);
  CHECK(layout.verdict->symbols == DecodeOutcome::sound);
  for (std::size_t side = 0; side < 2; ++side) {
    const cuda::JointSide here = layout.sides[side].side;
    cuda::test::run_grid(layout.predictions[side], {2, 64}, seed);
    cuda::test::run_grid(cuda::DequantiseRows{here}, {3, 64}, seed);
    cuda::test::run_grid(cuda::RoundRows{here}, {2, 96}, seed);
    cuda::test::run_grid(cuda::SynthesiseRows{here}, {2, 64}, seed);
    cuda::test::run_grid(layout.sides[side], {2, 32}, seed);
  }
  return rows;
}

}  // namespace

TEST_CASE("a device decodes groups of layers to the bits of the processor") {
  std::mt19937_64 random(21);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  constexpr ElementType types[] = {ElementType::f32, ElementType::f16, ElementType::bf16};
  for (std::uint64_t round = 0; round < 200; ++round) {
    CAPTURE(round);
    const auto pairs = round % 2 == 0 ? RotaryPairs::interleaved : RotaryPairs::halves;
    const Geometry geometry = profile_geometry(types[round % 3], pairs);
    const std::size_t features = round % 5 == 0 ? 0 : geometry.hidden;
    const auto profile =
        Profile::create(random_profile(geometry, {1, 3}, 5 + below(8), features, round), geometry).value();
    const std::size_t group = below(2), layers = profile->data().groups[group].layers, tokens = 1 + below(90);
    const auto first = static_cast<Position>(round % 4 == 0 ? 0 : below(300));
    if (first == 0 && tokens == 1) continue;

    std::normal_distribution<float> normal;
    std::vector<std::vector<std::byte>> bytes(2 * layers);
    for (auto& each : bytes) {
      std::vector<float> values(tokens * geometry.kv_values());
      for (float& value : values) value = normal(random);
      each.resize(tokens * geometry.kv_row_bytes());
      from_float(geometry.cache_type, values, each);
    }
    std::vector<float> of_tokens(tokens * features);
    for (float& value : of_tokens) value = normal(random);
    std::vector<std::uint8_t> classes(round % 3 == 0 ? 0 : tokens);
    for (std::uint8_t& each : classes) each = static_cast<std::uint8_t>(2 + below(11));
    const BlockContext context{first, of_tokens, classes};

    std::vector<KvRows> group_rows;
    std::vector<MutableKvRows> room;
    for (std::size_t layer = 0; layer < layers; ++layer) {
      group_rows.push_back({bytes[2 * layer], bytes[2 * layer + 1]});
      room.push_back({bytes[2 * layer], bytes[2 * layer + 1]});
    }
    const JointTransform coding(profile, group, StepScale{static_cast<std::int8_t>(static_cast<int>(below(60)) - 40)});
    const auto chunk = coding.encode(geometry, group_rows, context);
    REQUIRE(coding.decode(geometry, chunk, room, context));

    const auto read = JointChunk::read(*profile, group, geometry, chunk, {first, first + tokens});
    REQUIRE(read);
    auto found = decode_on_device(profile, group, geometry, *read, context, round);
    const std::size_t row = geometry.kv_row_bytes(), apart = read->has_first_row ? 1 : 0;
    for (std::size_t i = 0; i < 2 * layers; ++i) {
      if (read->has_first_row) std::memcpy(found[i].data(), read->first_row.data() + i * row, row);
      CHECK(std::memcmp(found[i].data(), bytes[i].data(), bytes[i].size()) == 0);
    }
    CHECK(read->rows == tokens - apart);
  }
}
