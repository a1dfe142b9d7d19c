#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include "krul/backend/model_backend.hpp"
#include "krul/compress/chunk_coding.hpp"
#include "krul/core/clock.hpp"
#include "krul/core/workers.hpp"
#include "krul/restore/cost_fit.hpp"

namespace krul {

/// What the forward pass takes on this machine.
struct ComputeCosts {
  LayerCosts layer;   ///< without decode_row_s
  double pass_s = 0;  ///< embedding and logits of one row
};

/// Runs passes of several lengths through all layers and fits their costs.
///
/// Each pass gets a batch of its own, as a restore does. Of the repeats the median counts: what is planned is a typical
/// restore, not the luckiest.
/// @param repeats  of each length, after one that warms up
/// @throws         PreconditionError if repeats is 0 or the model's context is below 64 tokens
/// @complexity     about 1,700 tokens through the model for each repeat
template <ModelBackend B, Clock C = SteadyClock>
[[nodiscard]] ComputeCosts measure_compute_costs(B& model, std::size_t repeats = 3, C clock = {}) {
  const Geometry& geometry = model.geometry();
  expects(repeats > 0 && geometry.context >= 64, "measure_compute_costs: at least one repeat and 64 tokens of context");
  // Rows, and the position of the first: a whole history, a front, and prompts behind a history.
  struct Shape {
    std::size_t rows, first;
  };
  const std::size_t far = std::min<std::size_t>(geometry.context / 2, 1024);
  const std::array<Shape, 6> shapes{
      {{far, 0}, {far / 4, 0}, {far / 4, far}, {far / 32, far}, {far / 8, far}, {1, far}}};

  auto cache = model.make_cache(2 * far);
  std::array<std::vector<LayerSample>, shapes.size()> samples;
  std::vector<double> outside_s;
  std::vector<float> logits(geometry.vocabulary);
  for (std::size_t repeat = 0; repeat <= repeats; ++repeat) {
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      auto batch = model.make_batch();
      std::vector<Position> positions(shapes[i].rows);
      std::iota(positions.begin(), positions.end(), static_cast<Position>(shapes[i].first));
      std::vector<Token> tokens(positions.size());
      for (std::size_t t = 0; t < tokens.size(); ++t)
        tokens[t] = static_cast<Token>((shapes[i].first + t) * 7919 % geometry.vocabulary);
      LayerSample sample{.rows = shapes[i].rows, .first_position = shapes[i].first};
      const TimePoint begin = clock.now();
      batch.assign(positions);
      model.embed(tokens, batch);
      double outside = seconds(clock.now() - begin);
      for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
        const TimePoint start = clock.now();
        model.project(layer, batch, cache, KvWrite::all);
        const TimePoint projected = clock.now();
        model.attend(layer, batch, cache, NullObserver{});
        const TimePoint attended = clock.now();
        model.finish(layer, batch);
        const TimePoint finished = clock.now();
        sample.project_s += seconds(projected - start) / static_cast<double>(geometry.layers);
        sample.attend_s += seconds(attended - projected) / static_cast<double>(geometry.layers);
        sample.finish_s += seconds(finished - attended) / static_cast<double>(geometry.layers);
      }
      const TimePoint last = clock.now();
      model.logits(batch, RowRange{shapes[i].rows - 1, shapes[i].rows}, logits);
      outside += seconds(clock.now() - last);
      if (repeat == 0) continue;
      samples[i].push_back(sample);
      outside_s.push_back(outside);
    }
  }
  const auto median = [](std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
  };
  std::vector<LayerSample> typical;
  for (const auto& repeated : samples) {
    const auto of = [&](double LayerSample::*time) {
      std::vector<double> times;
      for (const auto& sample : repeated) times.push_back(sample.*time);
      return median(std::move(times));
    };
    typical.push_back({repeated[0].rows, repeated[0].first_position, of(&LayerSample::project_s),
                       of(&LayerSample::attend_s), of(&LayerSample::finish_s)});
  }
  return {fit_layer_costs(typical), median(std::move(outside_s))};
}

/// Seconds a stored row of one layer (K and V) takes to become a row of the cache again, with all workers at it.
/// @param features  [64, F] of some tokens, if the coding's profile asks for them
/// @complexity      decodes 16 blocks of 64 rows some times over
template <Clock C = SteadyClock>
[[nodiscard]] double measure_decode_row_s(const Geometry& geometry, const ChunkCoding& coding, Workers& workers,
                                          std::span<const float> features = {}, C clock = {}) {
  constexpr std::size_t chunks = 16, rows = 64, repeats = 5;
  const std::size_t layers = coding.layers(), bytes = rows * geometry.kv_row_bytes();
  // The values do not matter here, only the time; layers differ a little, as a merge expects.
  std::vector<std::vector<std::byte>> plain(2 * layers, std::vector<std::byte>(bytes));
  for (std::size_t i = 0; i < plain.size(); ++i)
    for (std::size_t at = 0; at < bytes; ++at) plain[i][at] = static_cast<std::byte>((at * 7 + i) % 31 + 0x20);
  std::vector<KvRows> group;
  for (std::size_t layer = 0; layer < layers; ++layer) group.push_back({plain[2 * layer], plain[2 * layer + 1]});
  const BlockContext context{64, features};
  const std::vector<std::byte> coded = coding.encode(geometry, group, context);
  std::vector<std::byte> target(chunks * layers * 2 * bytes);
  double best = 0;
  for (std::size_t repeat = 0; repeat < repeats; ++repeat) {
    const TimePoint start = clock.now();
    workers.parallel_for(chunks, [&](std::size_t i, std::size_t) {
      std::vector<MutableKvRows> to;
      for (std::size_t layer = 0; layer < layers; ++layer) {
        const auto own = std::span(target).subspan((i * layers + layer) * 2 * bytes, 2 * bytes);
        to.push_back({own.first(bytes), own.last(bytes)});
      }
      static_cast<void>(coding.decode(geometry, coded, to, context));
    });
    const double taken = seconds(clock.now() - start) / static_cast<double>(chunks * layers * rows);
    best = repeat == 0 ? taken : std::min(best, taken);
  }
  return best;
}

}  // namespace krul
