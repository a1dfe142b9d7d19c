#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

#include "krul/restore/full_load.hpp"
#include "krul/restore/full_recompute.hpp"
#include "krul/restore/pyramid.hpp"
#include "krul/restore/uniform_split.hpp"
#include "krul/simulate/outcome.hpp"

namespace krul::simulate {

/// One way to bring a conversation back, of those that a map compares.
struct Mechanism {
  std::string_view name;
  char letter;  ///< for a map in text
  bool pure;    ///< uses one resource only: what the others are measured by
};

/// In the order in which equals win: the simpler first.
inline constexpr std::array<Mechanism, 7> mechanisms = {{{"recompute", 'R', true},
                                                         {"load", 'L', true},
                                                         {"merge", 'M', false},
                                                         {"split", 'S', false},
                                                         {"pyramid", 'P', false},
                                                         {"split+merge", 's', false},
                                                         {"pyramid+merge", 'p', false}}};

/// Where a map looks.
struct MapPoint {
  double compute_speed = 1;  ///< times the scene's own
  double link_bytes_per_s = 1e9;
  CodedRows coding;  ///< of the stored rows
};

/// What each mechanism takes at one point.
struct MapCell {
  MapPoint at;
  std::array<double, mechanisms.size()> first_token_s{};
  double recompute_over_load = 0;  ///< pure recompute over pure load of two-byte rows: where the point lies

  [[nodiscard]] std::size_t winner() const noexcept { return best(false); }
  [[nodiscard]] std::size_t best_pure() const noexcept { return best(true); }
  /// How many times sooner than the better of pure recompute and pure load in the same coding.
  [[nodiscard]] double gain() const noexcept { return first_token_s[best_pure()] / first_token_s[winner()]; }

 private:
  /// A mechanism has to be sooner by a hundredth to win over a simpler one.
  [[nodiscard]] std::size_t best(bool pure) const noexcept {
    std::size_t found = 0;
    for (std::size_t i = 1; i < mechanisms.size(); ++i)
      if ((!pure || mechanisms[i].pure) && first_token_s[i] < first_token_s[found] * 0.99) found = i;
    return found;
  }
};

/// The scene with a compute that is `speed` times as fast.
[[nodiscard]] inline Scene at_speed(Scene scene, double speed) noexcept {
  LayerCosts& layer = scene.costs.layer;
  for (double* cost : {&layer.call_s, &layer.project_row_s, &layer.finish_row_s, &layer.attend_pair_s,
                       &layer.attend_key_s, &layer.decode_row_s, &scene.costs.pass_s, &scene.merge_row_s})
    *cost /= speed;
  return scene;
}

/// Compares the mechanisms at one point. The link's latency stays the scene's; decoding speeds up with the
/// compute.
/// @complexity a hundred predictions
[[nodiscard]] inline MapCell map_cell(const Scene& base, const MapPoint& point) {
  Scene scene = at_speed(base, point.compute_speed);
  scene.costs.link.bytes_per_s = point.link_bytes_per_s;
  MapCell cell{.at = point};
  cell.recompute_over_load = two_byte_rows(scene, FullRecompute{}).predicted.first_token_s /
                             two_byte_rows(scene, FullLoad{}).predicted.first_token_s;

  scene.costs.layer.decode_row_s = point.coding.decode_row_s / point.compute_speed;
  const RowBytes two_bytes = row_bytes(scene.shape);
  const RowBytes row{two_bytes.own / point.coding.strength, two_bytes.merged / point.coding.strength};
  const std::vector<LayerPair> pairs = adjacent_pairs(scene.shape.layers);
  const RestoreSizes single = scene_sizes(scene, row), merged = scene_sizes(scene, row, pairs);
  const Costs merging = merging_costs(scene, pairs);
  const auto alone_s = [&](auto policy) { return planned(single, scene.costs, policy).predicted.first_token_s; };
  const auto merged_s = [&](auto policy) { return planned(merged, merging, policy).predicted.first_token_s; };
  cell.first_token_s = {alone_s(FullRecompute{}), alone_s(FullLoad{}), merged_s(FullLoad{}),
                        alone_s(UniformSplit{}),  alone_s(Pyramid{}),  merged_s(UniformSplit{}),
                        merged_s(Pyramid{})};
  return cell;
}

/// A coding that a map looks at.
struct MappedCoding {
  std::string_view name;
  CodedRows rows;
};

/// Rows at two bytes a value, and krul's codings.
[[nodiscard]] inline std::array<MappedCoding, 4> mapped_codings(const Scene& scene) {
  return {{{"f16", {1, scene.costs.layer.decode_row_s}},
           {"int8", scene.int8},
           {"joint-8x", scene.strong},
           {"joint-12x", scene.strongest}}};
}

/// The axes of a map: times the scene's compute, and bytes a second of the link.
inline constexpr std::array<double, 7> mapped_speeds = {0.125, 0.25, 0.5, 1, 2, 4, 8};
inline constexpr std::array<double, 10> mapped_rates = {10e6,  50e6,  117e6,  300e6, 1.25e9,
                                                        3.1e9, 6.5e9, 12.5e9, 26e9,  55e9};

}  // namespace krul::simulate
