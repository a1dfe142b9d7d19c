#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/restore/full_load.hpp"
#include "krul/restore/full_recompute.hpp"
#include "krul/simulate/strategies.hpp"

namespace krul::simulate {

/// Times to the first token that the paper's ratio study gives for LLaMA-7B with two fifths recomputed: full recompute
/// takes 2 and full load 1.35 times as long, so full recompute takes 1.48 times as long as full load.
/// @source Krul, arXiv:2507.08045, second-hand
inline constexpr double recompute_over_load = 2 / 1.35;

/// Histories over which ratios are averaged: the ends and the middle of the paper's sweep.
/// @source the ends: Krul, arXiv:2507.08045, second-hand
inline constexpr std::array<std::size_t, 4> swept_histories = {500, 1000, 2000, 4000};

/// The link rate at which full recompute takes `ratio` times as long as full load: the one number that is fitted.
/// @return invalid_argument if no rate from 1 MB/s to 10 TB/s does it
/// @complexity about 60 predictions
[[nodiscard]] inline Result<double> fitted_link_rate(Scene scene, double ratio = recompute_over_load) {
  const double recompute_s = two_byte_rows(scene, FullRecompute{}).predicted.first_token_s;
  const auto found = [&](double rate) {
    scene.costs.link.bytes_per_s = rate;
    return recompute_s / two_byte_rows(scene, FullLoad{}).predicted.first_token_s;
  };
  double low = 1e6, high = 1e13;
  if (!(found(low) <= ratio && ratio <= found(high))) {
    char text[400];  // the largest double has 309 digits before the point
    std::snprintf(text, sizeof text, "%.2f", ratio);
    return fail(ErrorCode::invalid_argument, "no link rate makes full recompute take " + std::string(text) +
                                                 " times as long as full load; try a number near 1");
  }
  while (high > low * (1 + 1e-12)) {
    const double middle = std::sqrt(low * high);
    (found(middle) < ratio ? low : high) = middle;
  }
  return low;
}

/// The same for the scene that the paper reports a ratio for: LLaMA-7B, a history of 2,000 tokens and a prompt of 128.
[[nodiscard]] inline Result<double> fitted_link_rate(const Hardware& hardware, double ratio = recompute_over_load) {
  return fitted_link_rate(device_scene(*model_shape("llama-7b"), hardware, 2000, 128), ratio);
}

/// One of the paper's numbers beside the simulated one.
struct PaperFigure {
  std::string_view quantity;
  double paper = 0;
  double simulated = 0;
  [[nodiscard]] double relative_error() const noexcept { return simulated / paper - 1; }
};

/// The paper's ratio study: LLaMA-7B, two bytes a value, one share recomputed in every layer.
/// @param scene  of llama-7b
/// @source Krul, arXiv:2507.08045, second-hand; that nothing was merged or pipelined in it is ours
[[nodiscard]] inline std::vector<PaperFigure> ratio_study(const Scene& scene) {
  const Outcome best = unpipelined_split(scene);
  const auto over_best = [&](auto policy) {
    return two_byte_rows(scene, policy).predicted.first_token_s / best.predicted.first_token_s;
  };
  return {{"ratio study: best share recomputed", 0.4, best.recomputed_share},
          {"ratio study: full recompute over it", 2, over_best(FullRecompute{})},
          {"ratio study: full load over it", 1.35, over_best(FullLoad{})}};
}

/// The paper's mean ratios, "other over krul-paper", as means over models and swept histories.
/// @param scene_of  scene_of(shape, history) -> Scene
/// @param krul      the strategy that stands for the paper's
/// @source Krul, arXiv:2507.08045, section 8, second-hand; that the means run over LLaMA-7B, LLaMA-30B and Qwen1.5-7B
///         is reported for the first number only
template <class SceneOf>
[[nodiscard]] std::vector<PaperFigure> paper_figures(SceneOf&& scene_of, std::string_view krul = "krul-paper") {
  constexpr std::array<std::string_view, 3> multi_head = {"llama-7b", "llama-30b", "qwen1.5-7b"};
  const auto named = [](std::string_view name) { return simulated_strategy(name)->simulate; };
  const auto mean = [&](std::span<const std::string_view> models, const auto& other, auto&& value) {
    double sum = 0;
    for (const std::string_view model : models)
      for (const std::size_t history : swept_histories) {
        const Scene scene = scene_of(*model_shape(model), history);
        sum += value(other(scene)) / value(named(krul)(scene));
      }
    return sum / static_cast<double>(models.size() * swept_histories.size());
  };
  const auto time = [](const Outcome& outcome) { return outcome.predicted.first_token_s; };
  const auto bytes = [](const Outcome& outcome) { return outcome.stored_bytes; };
  constexpr std::array<std::string_view, 1> grouped = {"qwen2-72b"};
  return {{"first token: full recompute", 2.65, mean(multi_head, named("recompute"), time)},
          {"first token: full recompute, Qwen2-72B", 6.62, mean(grouped, named("recompute"), time)},
          {"first token: full load", 2.35, mean(multi_head, named("load-f16"), time)},
          {"first token: fixed merging", 1.76, mean(multi_head, named("minicache"), time)},
          {"first token: partial, not pipelined", 1.5, mean(multi_head, unpipelined_split, time)},
          {"first token: partial, pipelined by layer", 1.5, mean(multi_head, named("partial"), time)},
          {"bytes: full", 2.35, mean(multi_head, named("load-f16"), bytes)},
          {"bytes: fixed merging", 1.75, mean(multi_head, named("minicache"), bytes)},
          {"bytes: partial", 1.33, mean(multi_head, unpipelined_split, bytes)}};
}

/// One of the paper's numbers beside two simulated ones: pairs of layers of the paper's strategy that stand for those
/// of attention, neighbours in one and distant in the other.
struct PaperComparison {
  PaperFigure adjacent, distant;
  bool by_pairs = true;  ///< false: nothing is merged, so both are the same
};

/// All of the paper's numbers on some hardware: its ratio study, then its mean ratios.
/// @param prompt  tokens
[[nodiscard]] inline std::vector<PaperComparison> paper_comparisons(const Hardware& hardware, std::size_t prompt) {
  const auto scene_of = [&](const ModelShape& shape, std::size_t history) {
    return device_scene(shape, hardware, history, prompt);
  };
  std::vector<PaperComparison> found;
  for (const PaperFigure& figure : ratio_study(scene_of(*model_shape("llama-7b"), 2000)))
    found.push_back({figure, figure, false});
  const auto adjacent = paper_figures(scene_of, "krul-paper"), distant = paper_figures(scene_of, "krul-paper-distant");
  for (std::size_t i = 0; i < adjacent.size(); ++i) found.push_back({adjacent[i], distant[i]});
  return found;
}

}  // namespace krul::simulate
