#include "krul/simulate/strategies.hpp"

#include <algorithm>
#include <iterator>
#include <optional>
#include <vector>

#include "krul/compress/float_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/slerp_merge.hpp"
#include "krul/restore/pyramid.hpp"
#include "krul/strategy/catalogue/cake.hpp"
#include "krul/strategy/catalogue/hcache.hpp"
#include "krul/strategy/catalogue/krul_paper.hpp"
#include "krul/strategy/catalogue/minicache.hpp"
#include "krul/strategy/catalogue/partial.hpp"
#include "krul/strategy/catalogue/recompute.hpp"
#include "krul/strategy/coding_costs.hpp"
#include "krul/strategy/planned_sizes.hpp"

namespace krul::simulate {
namespace {

/// What is known of a coding without coding anything.
struct KnownCoding {
  RowBytes row;
  DecodingTimes decode_row_s;
};

std::optional<KnownCoding> known_coding(const SavePlan& coding, const Scene& scene) {
  const LayerCosts& costs = scene.costs.layer;
  const RowBytes two_bytes = row_bytes(scene.shape);
  const std::string f16 = LayerPairCompressor(Separate{}, F16Codec{}).name(),
                    int8 = LayerPairCompressor(Separate{}, Int8Codec{}).name(),
                    merged = LayerPairCompressor(SlerpMerge{}, F16Codec{}).name(), name = coding.coding.name();
  const bool has_pairs = coding.pair_coding.layers() == 2;
  if (name == f16 && (!has_pairs || coding.pair_coding.name() == merged))
    return KnownCoding{two_bytes, {{f16, costs.decode_row_s}, {merged, costs.decode_row_s + scene.merge_row_s}}};
  const double int8_row = two_bytes.own / scene.int8.strength;
  if (name == int8 && !has_pairs) return KnownCoding{{int8_row, int8_row}, {{int8, scene.int8.decode_row_s}}};
  return std::nullopt;
}

/// The paper's strategy with pairs that stand for those of attention, which a simulation does not have. As in Eq. 1,
/// the pyramid is planned without the prompt.
template <SelectionPolicy Pairs>
AnyStrategy krul_paper_with(std::string name) {
  return Composed<Pairs, LayerPairCompressor<SlerpMerge, F16Codec>, BalancedPyramid>(std::move(name),
                                                                                     {.left_out = BalancedPyramid{1}});
}

SimulatedStrategy simulated(AnyStrategy strategy, std::string_view meaning) {
  return {strategy.name(), meaning,
          [strategy](const Scene& scene) { return simulate_restore(strategy, scene).value(); }};
}

Outcome soonest_coding(const Scene& scene) {
  const Outcome outcomes[] = {coded_rows(scene, scene.int8), coded_rows(scene, scene.strong),
                              coded_rows(scene, scene.strongest)};
  return *std::min_element(std::begin(outcomes), std::end(outcomes), [](const Outcome& a, const Outcome& b) {
    return a.predicted.first_token_s < b.predicted.first_token_s;
  });
}

}  // namespace

Result<Outcome> simulate_restore(const AnyStrategy& strategy, const Scene& scene) {
  const Needs needs = strategy.needs();
  if (needs.attention || needs.key_masses || needs.predictability || needs.step || needs.profile_is_missing)
    return fail(ErrorCode::unsupported, "strategy " + strategy.name() + " plans from a conversation, or codes by a " +
                                            "model's profile: a simulation has neither");
  if (needs.codings.empty())
    return fail(ErrorCode::unsupported, "strategy " + strategy.name() + " does not say how it codes rows");
  expects(scene.costs.on.compute == Resource::cores, "simulate_restore: the scene's model computes on the cores");
  const auto known = known_coding(needs.codings.front(), scene);
  const KnownCoding coding = known.value_or(KnownCoding{row_bytes(scene.shape), {}});
  const ModelShape& shape = scene.shape;
  const auto block_bytes = [&](double row) {
    return static_cast<std::uint64_t>(static_cast<double>(scene.block) * row);
  };
  Evidence evidence{.geometry = {.layers = shape.layers,
                                 .query_heads = shape.query_heads,
                                 .kv_heads = shape.kv_heads,
                                 .head_dim = shape.head_dim,
                                 .hidden = shape.hidden,
                                 .vocabulary = shape.vocabulary},
                    .tokens = scene.history,
                    .block = scene.block,
                    .prompt = scene.prompt,
                    .block_bytes = {.single = block_bytes(coding.row.own), .pair = block_bytes(coding.row.merged)},
                    .costs = scene.costs};
  Costs& costs = *evidence.costs;
  costs.layer = with_decoding(costs.layer, coding.decode_row_s, needs, shape.layers);
  const auto plan = strategy.plan(evidence);
  if (!plan) return propagate(plan);
  const auto stored_bytes = static_cast<double>(planned_bytes(*plan, evidence));
  if (!known && stored_bytes > 0)
    return fail(ErrorCode::unsupported, "strategy " + strategy.name() +
                                            ": a simulation knows rows as f16, as int8 and merged to f16, not as " +
                                            needs.codings.front().coding.name());
  const AnyPolicy policy = strategy.restore_policy();
  RestoreSizes sizes = planned_sizes(*plan, evidence);
  for (std::size_t layer = 0; layer < plan->left_out.size(); ++layer)
    sizes.layers[layer].unstored = plan->left_out[layer];
  const auto split = policy.split(sizes, costs);
  if (split && (needs.codings.front().coding.name() != "f16" || !plan->left_out.empty() || !plan->pairs.empty()))
    return fail(ErrorCode::unsupported, "strategy " + strategy.name() +
                                            " restores token by token: a simulation knows that for all rows as f16");
  Outcome outcome = split ? split_by_tokens(scene, *split) : planned(sizes, costs, policy);
  outcome.stored_bytes = stored_bytes;
  return outcome;
}

std::span<const SimulatedStrategy> simulated_strategies() {
  static const std::vector<SimulatedStrategy> all = {
      simulated(strategy::recompute(), "the whole history runs through the model again"),
      simulated(strategy::load(F16Codec{}),
                "two bytes a value, all of them read, layer by layer under the prompt's pass"),
      simulated(strategy::minicache(), "L/4 pairs of neighbours in the deep half merged, all loaded"),
      simulated(strategy::partial(), "the same front recomputed in every layer, its best share, pipelined by layer"),
      simulated(strategy::partial_plain(),
                "the same without a pipeline, all of it stored: front, then rest, then prompt"),
      simulated(strategy::cake(), "chunks prefilled from the front, blocks loaded from the back, until they meet"),
      simulated(strategy::Hcache{}, "hidden states in place of K and V; layers before a cut recomputed or loaded"),
      simulated(strategy::pyramid(), "krul-paper's pyramid without merging"),
      {"pyramid-best", "the pyramid that brings the first token soonest, nothing merged",
       [](const Scene& scene) { return two_byte_rows(scene, Pyramid{}); }},
      simulated(krul_paper_with<FixedDeepPairs>("krul-paper"),
                "the pairs of minicache, and a pyramid whose two parts take equally long (Eq. 1)"),
      simulated(krul_paper_with<DistantPairs>("krul-paper-distant"), "the same with as many pairs (l, l + 3L/8)"),
      {"krul-2x", "ours: int8, the planner's best schedule",
       [](const Scene& scene) { return coded_rows(scene, scene.int8); }},
      {"krul-8x", "ours: joint coding at 8 times, the planner's best schedule",
       [](const Scene& scene) { return coded_rows(scene, scene.strong); }},
      {"krul-12x", "ours: joint coding at 12 times, the planner's best schedule",
       [](const Scene& scene) { return coded_rows(scene, scene.strongest); }},
      {"krul-best", "ours: the soonest of these three", soonest_coding},
  };
  return all;
}

const SimulatedStrategy* simulated_strategy(std::string_view name) {
  const auto all = simulated_strategies();
  const auto found = std::ranges::find(all, name, &SimulatedStrategy::name);
  return found == all.end() ? nullptr : &*found;
}

}  // namespace krul::simulate
