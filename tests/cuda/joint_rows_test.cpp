#include "krul/cuda/kernels/joint_rows.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <deque>

#include "cuda/fibre_grid.hpp"
#include "krul/compress/joint/block_rotation.hpp"
#include "krul/compress/joint/joint_chunk.hpp"
#include "krul/compress/joint/step_classes.hpp"
#include "krul/compress/joint_transform.hpp"
#include "krul/cuda/kernels/decode_symbols.hpp"
#include "support/profile_samples.hpp"

using namespace krul;
using namespace krul::testing;
using krul::detail::DecodeOutcome;

namespace {

/// K or V of a chunk as a device holds them: what was uploaded, and its room.
struct UploadedSide {
  const Profile::Tensor& tensor;
  const JointChunk& chunk;
  std::vector<std::uint32_t> panels, run_of, predicted_of, words;
  std::vector<std::vector<std::int16_t>> symbols;
  std::vector<cuda::JointRun> runs;
  std::vector<float> predicted, wide_values, coefficients, row_scales, decoded;
  std::size_t predicted_stride = 0, wide_stride, narrow_stride;

  UploadedSide(const Profile::Tensor& of, const JointChunk& read, std::size_t side, std::span<const float> features)
      : tensor(of), chunk(read), run_of(read.rows) {
    const Int8Panels& synthesis = tensor.synthesis;
    panels.assign(synthesis.panel(0), synthesis.panel(0) + synthesis.panels() * synthesis.quads() * 16);
    for (std::uint32_t& word : panels) word ^= 0x80808080U;
    const auto padded = [](std::size_t columns) { return (columns + 15) / 16 * 16; };
    const auto& first = chunk.runs[side].front();
    wide_stride = padded(first.wide);
    narrow_stride = padded(first.columns - first.wide);
    wide_values.resize(chunk.rows * wide_stride + 1);
    coefficients.resize(chunk.rows * narrow_stride + 1);
    words.resize(chunk.rows * narrow_stride / 4 + 1);
    row_scales.resize(chunk.rows);
    decoded.resize(chunk.rows * tensor.mean.size());
    for (std::size_t i = 0; i < chunk.runs[side].size(); ++i) {
      const JointChunk::Run& run = chunk.runs[side][i];
      symbols.emplace_back(run.tables.size() * run.count);
      runs.push_back({static_cast<std::uint32_t>(run.first), static_cast<std::uint32_t>(run.count),
                      static_cast<std::uint32_t>(run.columns), static_cast<std::uint32_t>(run.wide),
                      run.symbol_of.data(), symbols.back().data()});
      for (std::size_t row = run.first; row < run.first + run.count; ++row) run_of[row] = static_cast<std::uint32_t>(i);
    }
    // What the processor predicts of each place, from the row of the chunk that it is.
    const std::size_t width = features.size() / (chunk.rows + (chunk.has_first_row ? 1 : 0));
    if (width == 0 || first.columns == 0) return;
    std::vector<float> given;
    for (std::size_t place = 0; place < chunk.rows; ++place) {
      const auto row = features.subspan(chunk.tokens[place] * width, width);
      given.insert(given.end(), row.begin(), row.end());
      predicted_of.push_back(static_cast<std::uint32_t>(place));
    }
    const Int8Rows rows(chunk.rows, width, given);
    predicted_stride = padded(first.columns);
    predicted.resize(rows.padded_rows() * predicted_stride);
    multiply(rows, tensor.prediction, predicted);
  }

  [[nodiscard]] cuda::JointSide side() {
    return {.scales = tensor.scales.data(),
            .prediction_scales = tensor.prediction_scales.data(),
            .wide_synthesis = tensor.wide_synthesis.data(),
            .synthesis = {panels.data(), tensor.synthesis.scales(), tensor.synthesis.offsets(),
                          static_cast<std::uint32_t>(tensor.synthesis.quads())},
            .values = static_cast<std::uint32_t>(tensor.mean.size()),
            .runs = runs.data(),
            .run_count = static_cast<std::uint32_t>(runs.size()),
            .rows = static_cast<std::uint32_t>(chunk.rows),
            .run_of = run_of.data(),
            .steps = chunk.steps.data(),
            .predicted = predicted.empty() ? nullptr : predicted.data(),
            .predicted_stride = static_cast<std::uint32_t>(predicted_stride),
            .predicted_of = predicted_of.data(),
            .wide_values = wide_values.data(),
            .coefficients = coefficients.data(),
            .wide_stride = static_cast<std::uint32_t>(wide_stride),
            .narrow_stride = static_cast<std::uint32_t>(narrow_stride),
            .words = words.data(),
            .row_scales = row_scales.data(),
            .decoded = decoded.data()};
  }
};

/// Rows of the cache's type, as aligned as a cache has them.
struct LayerRows {
  std::vector<float> room;
  explicit LayerRows(std::size_t bytes) : room(bytes / 4 + 1) {}
  [[nodiscard]] std::byte* data() { return reinterpret_cast<std::byte*>(room.data()); }
};

/// Brings a chunk back by kernels: all rows but one at position 0.
/// @return [layers, K and V] rows
std::deque<LayerRows> decode_on_device(const Profile& profile, std::size_t group, const Geometry& geometry,
                                       const JointChunk& chunk, const BlockContext& context, std::uint64_t seed) {
  std::deque<UploadedSide> sides;
  sides.emplace_back(profile.keys(group), chunk, 0, context.features);
  sides.emplace_back(profile.values(group), chunk, 1, context.features);

  std::vector<cuda::SymbolRun> runs;
  for (std::size_t side = 0; side < 2; ++side)
    for (std::size_t i = 0; i < chunk.runs[side].size(); ++i) {
      const auto& run = chunk.runs[side][i];
      runs.push_back({static_cast<std::uint32_t>(run.tables.size()), static_cast<std::uint32_t>(run.count),
                      run.tables.data(), sides[side].symbols[i].data()});
    }
  const cuda::SymbolStreams streams{chunk.symbols.data(), static_cast<std::uint32_t>(chunk.symbols.size()),
                                    static_cast<std::uint32_t>(chunk.streams), runs.data(),
                                    static_cast<std::uint32_t>(runs.size())};
  const auto tables = profile.tables().alias_tables();
  DecodeOutcome outcome = DecodeOutcome::truncated;
  cuda::test::run_grid(
      cuda::DecodeSymbols{tables.data(), static_cast<std::uint32_t>(tables.size()), &streams, 1, &outcome}, {1, 32},
      seed);
  CHECK(outcome == DecodeOutcome::sound);

  const std::size_t layers = profile.data().groups[group].layers, all = chunk.rows + (chunk.has_first_row ? 1 : 0);
  std::deque<LayerRows> rows;
  for (std::size_t i = 0; i < 2 * layers; ++i) rows.emplace_back(all * geometry.kv_row_bytes());
  // Angles of the row at position 0, too: places name rows of the chunk.
  const krul::detail::BlockRotation rotation(geometry.rotary, context.first + (chunk.has_first_row ? 1U : 0U),
                                             chunk.rows);
  const std::size_t half = geometry.rotary.dimensions / 2, skipped = chunk.has_first_row ? half : 0;
  std::vector<float> cosines(skipped), sines(skipped);
  cosines.insert(cosines.end(), rotation.cosines().begin(), rotation.cosines().end());
  sines.insert(sines.end(), rotation.sines().begin(), rotation.sines().end());
  for (std::size_t side = 0; side < 2; ++side) {
    const cuda::JointSide here = sides[side].side();
    std::vector<void*> to;
    for (std::size_t layer = 0; layer < layers; ++layer) to.push_back(rows[2 * layer + side].data());
    cuda::test::run_grid(cuda::DequantiseRows{here}, {3, 64}, seed);
    cuda::test::run_grid(cuda::RoundRows{here}, {2, 96}, seed);
    cuda::test::run_grid(cuda::SynthesiseRows{here}, {2, 64}, seed);
    cuda::test::run_grid(cuda::StoreRows{.side = here,
                                         .type = geometry.cache_type,
                                         .width = static_cast<std::uint32_t>(geometry.kv_values()),
                                         .dim = static_cast<std::uint32_t>(geometry.head_dim),
                                         .layers = static_cast<std::uint32_t>(layers),
                                         .to = to.data(),
                                         .tokens = chunk.tokens.data(),
                                         .cosines = side == 0 ? cosines.data() : nullptr,
                                         .sines = sines.data(),
                                         .half = static_cast<std::uint32_t>(half),
                                         .interleaved = geometry.rotary.pairs == RotaryPairs::interleaved},
                         {2, 32}, seed);
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
    auto found = decode_on_device(*profile, group, geometry, *read, context, round);
    const std::size_t row = geometry.kv_row_bytes(), apart = read->has_first_row ? 1 : 0;
    for (std::size_t i = 0; i < 2 * layers; ++i) {
      if (read->has_first_row) std::memcpy(found[i].data(), read->first_row.data() + i * row, row);
      CHECK(std::memcmp(found[i].data(), bytes[i].data(), bytes[i].size()) == 0);
    }
    CHECK(read->rows == tokens - apart);
  }
}
