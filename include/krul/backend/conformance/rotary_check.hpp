#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "krul/backend/conformance/pass.hpp"
#include "krul/backend/lends_hidden_states.hpp"
#include "krul/core/half.hpp"

namespace krul::conformance {

/// Undoes the rotary embedding that a geometry declares.
/// @param heads  [G, D] keys of one token, in place
inline void turn_back(const Geometry& geometry, Position position, std::span<float> heads) {
  const Rotary& rotary = geometry.rotary;
  const std::size_t pairs = rotary.dimensions / 2;
  const bool interleaved = rotary.pairs == RotaryPairs::interleaved;
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    const double share = -2.0 * static_cast<double>(pair) / static_cast<double>(rotary.dimensions);
    const double angle = position * std::pow(rotary.base, share);
    const double cosine = std::cos(angle), sine = std::sin(angle);
    for (std::size_t head = 0; head < heads.size(); head += geometry.head_dim) {
      float& a = heads[head + (interleaved ? 2 * pair : pair)];
      float& b = heads[head + (interleaved ? 2 * pair + 1 : pair + pairs)];
      const double x = a, y = b;
      a = static_cast<float>(x * cosine + y * sine);
      b = static_cast<float>(y * cosine - x * sine);
    }
  }
}

/// Whether the rotary embedding is the declared one: in the first layer, whose keys know nothing but their token, one
/// token has the same key everywhere once it is undone. Passes agree with each other whatever is declared, but profiles
/// and merged layers work on keys without it. Nothing is checked where none is declared, or embed is seen to add
/// positions of its own.
template <ModelBackend B>
void check_rotary(const Trial<B>& trial, ConformanceReport& report) {
  const Geometry& geometry = trial.geometry;
  if (geometry.rotary.dimensions == 0) return;
  report.add("rotary: without the declared embedding, a token has the same key at every position", [&] {
    const std::size_t count = trial.tokens.size(), width = geometry.kv_values();
    const std::vector<Token> same(count, trial.tokens.front());
    auto session = start(trial.model, count);
    const auto positions = trial.positions({0, count});
    LayerWalk<B> walk(trial.model, session, same, positions, KvWrite::all);
    walk.step();
    if constexpr (LendsHiddenStates<typename B::Batch>) {
      const std::span<float> hidden = session.batch.hidden();
      for (std::size_t i = geometry.hidden; i < hidden.size(); ++i)
        if (hidden[i] != hidden[i - geometry.hidden]) return std::string("not checked: embed knows positions");
    }
    walk.step();
    const OwnedKvRows rows = read_kv_rows(session.cache, geometry, 0, {0, count});
    std::vector<float> keys(count * width), first;
    to_float(geometry.cache_type, rows.keys, keys);
    for (const Position position : positions) {
      turn_back(geometry, position, std::span(keys).subspan(position * width, width));
      first.insert(first.end(), keys.begin(), keys.begin() + static_cast<std::ptrdiff_t>(width));
    }
    const double difference = relative_difference(keys, first, width);
    // Two keys are rounded, and turned by angles in float, even where passes have the same bits. Another embedding
    // moves keys by order 1.
    const double allowed =
        std::max(trial.tolerance, 4 * unit_roundoff(geometry.cache_type) + static_cast<double>(count) * 4 * 0x1p-24);
    require(difference <= allowed,
            "keys of one token differ by " + std::to_string(difference) + ", allowed are " + std::to_string(allowed) +
                ": geometry().rotary is not what project computes; where Rotary cannot say it, declare 0 dimensions");
    return "largest relative difference " + std::to_string(difference) + ", allowed " + std::to_string(allowed);
  });
}

}  // namespace krul::conformance
