// Hostile chunks of every coding, as a restore decodes them. What is accepted fills all rows that were asked for.
#include "../examples/02_your_own_backend/toy_backend.hpp"
#include "fuzz_target.hpp"
#include "krul/compress/coding_set.hpp"
#include "krul/compress/hidden_states.hpp"
#include "support/profile_samples.hpp"

namespace krul::fuzz {
namespace {

constexpr ElementType chunk_types[] = {ElementType::f32, ElementType::f16, ElementType::bf16};
constexpr std::size_t most_rows = 24;

/// A model of four layers for each type of cache, and all that its chunks can be coded by.
struct ChunkWorld {
  Geometry geometry;
  CodingSet codings;
  toy::Backend model;
  std::vector<float> features;

  explicit ChunkWorld(ElementType type) : geometry(testing::profile_geometry(type)), model(geometry) {
    codings.set_profile(Profile::create(testing::random_profile(geometry, {1, 3}, 6, 32, 5), geometry).value());
    for (std::size_t i = 0; i < most_rows * 32; ++i) features.push_back(static_cast<float>(i % 5) * 0.25F);
  }
  [[nodiscard]] BlockContext context(Position first, std::size_t rows) const {
    return {first, std::span(features).first(rows * 32)};
  }
};

const ChunkWorld& chunk_world(std::size_t type) {
  static const std::vector<ChunkWorld> worlds = [] {
    std::vector<ChunkWorld> all;
    for (const ElementType each : chunk_types) all.emplace_back(each);
    return all;
  }();
  return worlds[type % worlds.size()];
}

/// The rows of a group, in room that held something else before.
struct DecodedRows {
  std::vector<Bytes> rows;  ///< [layers, 2]
  Status status;
};

DecodedRows decode_into(const ChunkWorld& world, const AnyChunkCoder& coder, std::span<const std::byte> chunk,
                        std::byte before, Position first, std::size_t rows) {
  DecodedRows decoded{std::vector<Bytes>(2 * coder.layers(), Bytes(rows * world.geometry.kv_row_bytes(), before)), {}};
  std::vector<MutableKvRows> to;
  for (std::size_t layer = 0; layer < coder.layers(); ++layer)
    to.push_back({decoded.rows[2 * layer], decoded.rows[2 * layer + 1]});
  decoded.status = coder.decode(world.geometry, chunk, to, world.context(first, rows));
  return decoded;
}

void project_chunk(const ChunkWorld& world, std::span<const std::byte> chunk, std::size_t layer, std::size_t rows) {
  const auto values = projected_values(world.model, chunk, {0, rows});
  if (values.empty()) return;
  auto cache = world.model.make_cache(most_rows);
  const ProjectedChunk projected{{0, rows}, values};
  project_chunks(world.model, cache, layer, std::span(&projected, 1));
  require(cache.present(layer).contains({0, rows}), "projected rows are missing");
}

void read_chunk(std::span<const std::byte> bytes) {
  Input input(bytes);
  const auto number = static_cast<std::uint8_t>(input.byte());
  const ChunkWorld& world = chunk_world(input.byte());
  const std::size_t rows = 1 + input.byte() % most_rows, layer = input.byte() % (world.geometry.layers + 1);
  const auto first = static_cast<Position>(input.byte() % 2 * 64);
  const Bytes chunk(input.rest().begin(), input.rest().end());  // whose end sanitizers know
  if (number == projected_coding) return project_chunk(world, chunk, layer % world.geometry.layers, rows);
  const std::string names[] = {"acme.fp8.1"};
  const auto coder = world.codings.find({number, names, layer});
  if (!accepted(coder)) return;
  const auto decoded = decode_into(world, *coder, chunk, std::byte{0x00}, first, rows);
  const auto again = decode_into(world, *coder, chunk, std::byte{0x3c}, first, rows);
  require(accepted(decoded.status) == again.status.has_value(), "a chunk is accepted the second time alone");
  if (decoded.status) require(decoded.rows == again.rows, "a chunk leaves rows as they were");
}

std::vector<Bytes> chunk_seeds() {
  std::vector<Bytes> seeds;
  constexpr std::size_t rows = 5;
  for (unsigned type = 0; type < std::size(chunk_types); ++type) {
    const ChunkWorld& world = chunk_world(type);
    std::vector<float> values(rows * world.geometry.kv_values());
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 7 % 23) * 0.125F - 1;
    Bytes bytes(rows * world.geometry.kv_row_bytes());
    from_float(world.geometry.cache_type, values, bytes);
    for (unsigned number = 0; number < first_foreign_coding; ++number)
      for (const unsigned layer : {0U, 1U}) {
        const auto coder = world.codings.find({static_cast<std::uint8_t>(number), {}, layer});
        if (!coder || (layer > 0 && number != joint_coding)) continue;
        const std::vector<KvRows> group(coder->layers(), KvRows{bytes, bytes});
        for (const unsigned first : {0U, 1U}) {
          if (first > 0 && number != joint_coding) continue;
          const auto chunk = coder->encode(world.geometry, group, world.context(64 * first, rows));
          seeds.push_back(joined({number, type, rows - 1, layer, first}, chunk));
        }
      }
    Bytes hidden(rows * world.geometry.hidden * size_of(ElementType::f16), std::byte{0x30});
    seeds.push_back(joined({projected_coding, type, rows - 1, 2, 0}, hidden));
  }
  return seeds;
}

}  // namespace

Target chunk_target() {
  return {"chunk", read_chunk, chunk_seeds};
}

}  // namespace krul::fuzz
