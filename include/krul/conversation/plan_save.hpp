#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "krul/backend/owned_kv_rows.hpp"
#include "krul/compress/token_features.hpp"
#include "krul/conversation/strategy.hpp"
#include "krul/restore/restoration_scheduler.hpp"
#include "krul/select/attention_similarity.hpp"
#include "krul/select/fixed_pairs.hpp"
#include "krul/select/hidden_state_split.hpp"
#include "krul/select/strategy_selector.hpp"

namespace krul {

/// What the plan of a save depends on, beside the strategy.
struct SaveSituation {
  const Geometry& geometry;
  std::size_t tokens = 0;                         ///< N: length of the conversation
  std::size_t block = 64;                         ///< tokens of a stored block
  std::size_t prompt = 32;                        ///< M >= 1: new tokens that are expected when it comes back
  BlockBytes block_bytes;                         ///< what the strategy's codings make of one block, if it weighs_bytes
  const AttentionStatistics& statistics;          ///< of this conversation; may be empty if nothing looks at it
  std::span<const double> unpredictability = {};  ///< [L, L], for PairChoice::predictable
  std::shared_ptr<const Profile> profile = {};    ///< of the model, for strategies that code by it; may be none
  std::optional<Costs> costs = {};                ///< of the restore that is planned for; none: nothing is left out
};

/// The codings of a strategy, by the model's profile if it wants one and there is one.
/// @return unsupported if its codec is not in this build
[[nodiscard]] inline Result<SavePlan> codings_of(const Strategy& strategy,
                                                 const std::shared_ptr<const Profile>& profile = {}) {
  if (strategy.step && profile) return SavePlan::joint(profile, *strategy.step, std::string(strategy.name));
  const auto codec = row_codec_from_name(strategy.codec);
  if (!codec) return propagate(codec);
  SavePlan plan = SavePlan::separate(*codec, std::string(strategy.name));
  plan.pair_coding = {strategy.pairs == PairChoice::none ? ChunkCoding::Sharing{Separate{}} : strategy.merge, *codec};
  if (strategy.packed) plan.coding = {Packed{}, *codec};
  plan.order = strategy.order;
  return plan;
}

/// What a strategy's codings make of a block, tried on rows of a cache: merged chunks have no fixed length.
/// @param block   tokens, no more than the cache holds
/// @throws PreconditionError if the cache holds fewer tokens, or the plan's pairs do not fit its geometry;
///         NotFiniteError if a row is not finite
template <KvCache Cache>
[[nodiscard]] BlockBytes measure_block_bytes(const Cache& cache, const Geometry& geometry, const SavePlan& plan,
                                             std::size_t block) {
  expects(block > 0 && cache.length() >= block, "measure_block_bytes: the cache holds no whole block");
  const TokenRange tokens{cache.length() - block, cache.length()};
  const std::size_t middle = geometry.layers / 2, next = std::min(middle + 1, geometry.layers - 1);
  const OwnedKvRows rows[] = {read_finite_kv_rows(cache, geometry, middle, tokens),
                              read_finite_kv_rows(cache, geometry, next, tokens)};
  const KvRows group[] = {rows[0].view(), rows[1].view()};
  BlockBytes measured{.single = plan.coding.encode(geometry, std::span(group).first(1)).size(), .pair = 0};
  measured.pair =
      plan.pair_coding.layers() == 2 ? plan.pair_coding.encode(geometry, group).size() : 2 * measured.single;
  return measured;
}

/// What a plan with a profile makes of the same tokens, group by group, once as recent rows and once as others.
/// @param features  of the cache's tokens, if the profile asks for them
/// @throws PreconditionError as measure_block_bytes, and as JointTransform::encode
template <KvCache Cache>
[[nodiscard]] BlockBytes measure_group_bytes(const Cache& cache, const Geometry& geometry, const SavePlan& plan,
                                             std::size_t block, const TokenFeatures& features) {
  expects(block > 0 && cache.length() >= block && plan.profile, "measure_group_bytes: needs a block and a profile");
  const TokenRange tokens{cache.length() - block, cache.length()};
  const auto& groups = plan.profile->data().groups;
  BlockBytes measured;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    std::vector<OwnedKvRows> rows;
    for (std::size_t layer = 0; layer < groups[i].layers; ++layer)
      rows.push_back(read_finite_kv_rows(cache, geometry, groups[i].first_layer + layer, tokens));
    const BlockContext context{static_cast<Position>(tokens.begin), features.of(tokens)};
    const auto bytes_at = [&](StepScale step) {
      return JointTransform(plan.profile, i, step).encode(geometry, views_of(rows), context).size();
    };
    measured.groups.push_back(bytes_at(plan.step));
    measured.recent_groups.push_back(bytes_at(plan.recent.step(plan.step)));
  }
  return measured;
}

namespace detail {

/// The sizes of a conversation that a plan is about to save, if everything were stored.
[[nodiscard]] inline RestoreSizes sizes_of(const SavePlan& plan, const SaveSituation& situation) {
  RestoreSizes sizes =
      sizes_if_stored(situation.tokens, situation.block, situation.geometry.layers, plan.pairs, situation.block_bytes);
  sizes.prompt = situation.prompt;
  if (!plan.profile) return sizes;
  const auto& groups = plan.profile->data().groups;
  const BlockBytes& bytes = situation.block_bytes;
  expects(bytes.groups.size() == groups.size() && bytes.recent_groups.size() == groups.size(),
          "plan_save: the bytes of each group are missing");
  for (std::size_t i = 0; i < groups.size(); ++i)
    for (std::size_t layer = groups[i].first_layer; layer < groups[i].first_layer + groups[i].layers; ++layer) {
      for (std::size_t block = 0; block < sizes.blocks(); ++block) {
        const std::size_t end = std::min((block + 1) * sizes.block, sizes.history);
        sizes.layers[layer].block_bytes[block] =
            plan.recent.include(end, sizes.history) ? bytes.recent_groups[i] : bytes.groups[i];
      }
      sizes.layers[layer].joint_share = 1;
      sizes.layers[layer].most_bytes = largest_group_request;
      sizes.layers[layer].group_layers = groups[i].layers;
      sizes.layers[layer].group_index = layer - groups[i].first_layer;
      if (layer > groups[i].first_layer)
        sizes.layers[layer].shared_with.assign(sizes.blocks(), static_cast<std::int32_t>(layer - 1));
    }
  return sizes;
}

/// The same front for all layers of a group, that of its middle layer: there is no coding for a part of it.
inline void level_groups(std::vector<std::size_t>& fronts, const Profile& profile) {
  for (const auto& group : profile.data().groups) {
    const auto begin = fronts.begin() + static_cast<std::ptrdiff_t>(group.first_layer);
    const std::size_t middle = fronts[group.first_layer + group.layers / 2];
    std::fill(begin, begin + static_cast<std::ptrdiff_t>(group.layers), middle);
  }
}

[[nodiscard]] inline std::vector<LayerPair> choose_pairs(const Strategy& strategy, const SaveSituation& situation) {
  const auto ask = [&](auto policy) {
    return StrategySelector(std::move(policy))
        .select(situation.statistics, {.layers = situation.geometry.layers, .tokens = situation.tokens})
        .pairs;
  };
  switch (strategy.pairs) {
    case PairChoice::none:
      break;
    case PairChoice::attention:
      return ask(AttentionSimilarity{});
    case PairChoice::fixed_deep:
      return ask(FixedDeepPairs{});
    case PairChoice::random:
      return ask(RandomPairs{situation.tokens});
    case PairChoice::predictable:
      return ask(PairsByDistance{{situation.unpredictability.begin(), situation.unpredictability.end()}});
  }
  return {};
}

/// The same front in every layer that stores about as many bytes as `pyramid`: deeper layers may have one block less.
[[nodiscard]] inline std::vector<std::size_t> uniform_with_bytes_of(const std::vector<std::size_t>& pyramid,
                                                                    const RestoreSizes& sizes, const Costs& costs) {
  const Predictor predictor(sizes, costs);
  const auto wanted = static_cast<double>(predictor(pyramid).bytes);
  std::vector<std::size_t> best;
  double best_gap = 0;
  for (std::size_t step = 0; step <= sizes.blocks() * sizes.layers.size(); ++step) {
    const std::size_t blocks = step / sizes.layers.size(), longer = step % sizes.layers.size();
    std::vector<std::size_t> prefix(sizes.layers.size());
    for (std::size_t layer = 0; layer < prefix.size(); ++layer)
      prefix[layer] = std::min((blocks + (layer < longer ? 1 : 0)) * sizes.block, sizes.history);
    const double gap = std::abs(static_cast<double>(predictor(prefix).bytes) - wanted);
    if (!best.empty() && gap >= best_gap) continue;
    best = std::move(prefix);
    best_gap = gap;
  }
  return best;
}

/// The longest front, the same in every layer, with which a restore still takes at most `share` of what recomputing all
/// rows takes, and of what reading all of them takes at two bytes a value.
[[nodiscard]] inline std::vector<std::size_t> affordable_front(const SaveSituation& situation,
                                                               const RestoreSizes& sizes, double share) {
  const Predictor predictor(sizes, *situation.costs);
  const std::size_t layers = sizes.layers.size();
  const auto seconds_with = [&](std::size_t front) {
    return predictor(std::vector<std::size_t>(layers, front)).first_token_s;
  };
  const double read_s =
      static_cast<double>(situation.tokens * situation.geometry.f16_token_bytes()) / situation.costs->link.bytes_per_s;
  const double limit_s = share * std::min(read_s, seconds_with(sizes.history));
  std::size_t front = 0;
  for (std::size_t next = sizes.block; next <= sizes.history && seconds_with(next) <= limit_s; next += sizes.block)
    front = next;
  return std::vector<std::size_t>(layers, front);
}

/// How much coarser the rest may be coded where a front is always recomputed, and so exact: with three tenths of the
/// rows exact the divergence falls to 0.82, about the root of the share that is coded, and 8 codes double it.
[[nodiscard]] inline StepScale step_behind_front(StepScale step, std::size_t front, std::size_t tokens) {
  constexpr double coarsest = coarsest_step.code;
  const double coded = static_cast<double>(tokens - front) / static_cast<double>(tokens);
  const double code = coded > 0 ? step.code + std::floor(-4 * std::log2(coded)) : coarsest;
  return {static_cast<std::int8_t>(std::min(code, std::max<double>(step.code, coarsest)))};
}

/// Whether rows by themselves bring the first token sooner than rows coded by the profile: where the link is fast,
/// decoding takes longer than reading. They take several times the bytes, so equally soon is not enough.
[[nodiscard]] inline bool plain_is_sooner(const Strategy& strategy, const SavePlan& plain, const SavePlan& joint,
                                          const SaveSituation& situation) {
  constexpr double worth = 0.95;
  const auto seconds = [&](const SavePlan& plan) {
    const RestoreSizes sizes = sizes_of(plan, situation);
    const RestorationScheduler<AnyPolicy> scheduler(strategy.policy);
    return predict(scheduler.plan(sizes, *situation.costs), sizes, *situation.costs).first_token_s;
  };
  return seconds(plain) < worth * seconds(joint);
}

/// HCache's split by layer: which layers are kept as hidden states, and whether the others, the first ones, are
/// recomputed or kept as K and V.
inline void plan_hidden_states(SavePlan& plan, const SaveSituation& situation) {
  const Geometry& geometry = situation.geometry;
  plan.hidden_states.assign(geometry.layers, true);
  if (!situation.costs) return;
  const Costs& costs = *situation.costs;
  const auto tokens = static_cast<double>(situation.tokens);
  const auto split = best_hidden_state_split(
      {.read_hidden_s = tokens * 2 * static_cast<double>(geometry.hidden) / costs.link.bytes_per_s,
       .read_kv_s = tokens * 4 * static_cast<double>(geometry.kv_values()) / costs.link.bytes_per_s,
       .project_hidden_s = tokens * costs.layer.project_row_s,
       .recompute_s = costs.layer.call_s + tokens * (costs.layer.project_row_s + costs.layer.finish_row_s) +
                      attended_pairs(0, situation.tokens) * costs.layer.attend_pair_s},
      geometry.layers);
  for (std::size_t layer = 0; layer + split.hidden < geometry.layers; ++layer) plan.hidden_states[layer] = false;
  if (!split.others_recompute) return;
  plan.left_out.assign(geometry.layers, 0);
  for (std::size_t layer = 0; layer + split.hidden < geometry.layers; ++layer) plan.left_out[layer] = situation.tokens;
}

}  // namespace detail

/// The plan of a strategy's save. Pure.
/// @return unsupported if the strategy's codec is not in this build
/// @throws PreconditionError if the strategy looks at statistics or distances that are not there, or costs are not
/// valid
/// @complexity O(L * blocks^2), and times L for a uniform front
[[nodiscard]] inline Result<SavePlan> plan_save(const Strategy& strategy, const SaveSituation& situation) {
  auto plan = codings_of(strategy, situation.profile);
  if (!plan) return plan;
  if (strategy.codes_for_link && plan->profile && situation.costs) {
    auto plain = codings_of(strategy);
    if (!plain) return plain;
    if (detail::plain_is_sooner(strategy, *plain, *plan, situation)) plan = std::move(plain);
  }
  const std::size_t layers = situation.geometry.layers;
  plan->pairs = detail::choose_pairs(strategy, situation);
  for (const LayerPair& pair : plan->pairs)
    plan->settings +=
        (plan->settings.empty() ? "pairs " : " ") + std::to_string(pair.shallow) + "+" + std::to_string(pair.deep);
  if (strategy.stored_as == StoredAs::hidden_states) detail::plan_hidden_states(*plan, situation);
  if (strategy.left_out == LeftOut::everything) plan->left_out.assign(layers, situation.tokens);
  if (!strategy.leaves_front() || !situation.costs) return plan;

  const RestoreSizes sizes = detail::sizes_of(*plan, situation);
  if (strategy.left_out == LeftOut::affordable_front) {
    constexpr double share = 0.45;  // so that twice as fast is kept where a prediction is off by a tenth
    plan->left_out = detail::affordable_front(situation, sizes, share);
    if (plan->profile) plan->step = detail::step_behind_front(plan->step, plan->left_out.front(), situation.tokens);
    return plan;
  }
  plan->left_out = balanced_pyramid(sizes, *situation.costs);
  if (plan->profile) detail::level_groups(plan->left_out, *plan->profile);
  if (strategy.left_out == LeftOut::uniform_front)
    plan->left_out = plan->pairs.empty() ? RestorationScheduler<UniformSplit>{}.plan(sizes, *situation.costs).prefix
                                         : detail::uniform_with_bytes_of(plan->left_out, sizes, *situation.costs);
  return plan;
}

/// Bytes that a plan stores of K and V, by the sizes it was made with.
/// @throws PreconditionError if a size is not valid
[[nodiscard]] inline std::uint64_t planned_bytes(const SavePlan& plan, const SaveSituation& situation) {
  const RestoreSizes sizes = detail::sizes_of(plan, situation);
  const Costs any;
  return Predictor(sizes,
                   any)(plan.left_out.empty() ? std::vector<std::size_t>(situation.geometry.layers, 0) : plan.left_out)
      .bytes;
}

}  // namespace krul
