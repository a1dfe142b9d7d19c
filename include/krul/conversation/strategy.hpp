#pragma once

#include <concepts>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "krul/compress/chunk_coding.hpp"
#include "krul/restore/as_stored.hpp"
#include "krul/restore/cautious.hpp"
#include "krul/restore/token_split.hpp"
#include "krul/store/segment.hpp"

namespace krul {

/// A restore policy chosen at run time.
class AnyPolicy {
 public:
  using Choice =
      std::variant<DefaultPolicy, FullRecompute, FullLoad, UniformSplit, Pyramid, AsStored, TwoPointers, PlainSplit>;
  AnyPolicy() = default;
  template <class Policy>
  requires std::constructible_from<Choice, Policy> AnyPolicy(Policy policy) : choice_(std::move(policy)) {}
  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs& costs) const {
    return std::visit([&](const auto& policy) { return policy.prefix(sizes, costs); }, choice_);
  }
  /// How to restore token by token, for the policies that do.
  [[nodiscard]] std::optional<TokenSplit> split(const RestoreSizes& sizes, const Costs& costs) const {
    return std::visit(
        [&](const auto& policy) -> std::optional<TokenSplit> {
          if constexpr (TokenOrderPolicy<std::remove_cvref_t<decltype(policy)>>) return policy.split(sizes, costs);
          return std::nullopt;
        },
        choice_);
  }

 private:
  Choice choice_ = DefaultPolicy{};
};
static_assert(RestorePolicy<AnyPolicy> && TokenOrderPolicy<AnyPolicy>);

/// Which layers a strategy codes together.
enum class PairChoice : std::uint8_t { none, attention, fixed_deep, random, predictable };

/// Which rows a strategy leaves out of what it stores, because a restore will recompute them.
enum class LeftOut : std::uint8_t { nothing, everything, uniform_front, pyramid, affordable_front };

/// What is stored of a token.
enum class StoredAs : std::uint8_t { keys_and_values, hidden_states, heavy_hitters };

/// Steps of a profile whose code 0 has a KL of 0.009 on what it was fitted to. What was not fitted to errs more: these
/// were chosen on other sources, see docs/coding.md.
inline constexpr StepScale step_of_codec{-13}, step_of_compact{-6}, step_of_small{3};

/// The divergence, in nats, for which a conversation's own step is chosen once it can be measured.
inline constexpr double kl_of_codec = 0.0024, kl_of_compact = 0.0055, kl_of_small = 0.0105;

/// A name for how rows are stored and how they are brought back. Pure data: see plan_save and the policy.
struct Strategy {
  std::string_view name;
  std::string_view codec;  ///< name of the row codec
  AnyPolicy policy;        ///< of the restore
  std::string_view meaning;
  PairChoice pairs = PairChoice::none;
  ChunkCoding::Sharing merge = SlerpMerge{};  ///< what layers of a pair share
  LeftOut left_out = LeftOut::nothing;
  StoredAs stored_as = StoredAs::keys_and_values;
  SegmentOrder order = SegmentOrder::by_layer;
  bool packed = false;                 ///< what the codec leaves of single layers is entropy coded
  std::optional<StepScale> step = {};  ///< coded in the groups of the model's profile, this coarsely; without a
                                       ///< profile, or if there is none, by the row codec
  double kl = 0;  ///< what a conversation's step is chosen for, once it can be measured; 0: the step stays
  StepScale finest = finest_step, coarsest = coarsest_step;  ///< of the steps that may be chosen
  bool codes_for_link = false;  ///< the row codec where that brings the first token sooner than the profile's coding

  /// Whether a save leaves out a front that is as large as its costs ask for.
  [[nodiscard]] bool leaves_front() const noexcept {
    return left_out != LeftOut::nothing && left_out != LeftOut::everything;
  }
  /// Whether planning a save needs to know what a block takes.
  [[nodiscard]] bool weighs_bytes() const noexcept { return leaves_front() || codes_for_link; }
  /// Whether what a save stores depends on the costs of the restore that is planned for.
  [[nodiscard]] bool plans_for_costs() const noexcept {
    return weighs_bytes() || stored_as != StoredAs::keys_and_values;
  }
  /// Whether a save needs statistics of the conversation's attention.
  [[nodiscard]] bool observes_attention() const noexcept { return pairs == PairChoice::attention; }
};

/// Every strategy there is; the first ones are those of the paper's evaluation, then variants that isolate one part.
[[nodiscard]] inline const std::vector<Strategy>& strategies() {
  const SlerpMerge keys_only({.merge_values = false}), values_only({.merge_keys = false});
  static const std::vector<Strategy> all = {
      {.name = "recompute",
       .codec = "exact",
       .policy = FullRecompute{},
       .meaning = "only the tokens are kept; the whole history runs through the model again",
       .left_out = LeftOut::everything},
      {.name = "load-exact",
       .codec = "exact",
       .policy = FullLoad{},
       .meaning = "the cache's own bytes, all of them read"},
      {.name = "load-f16", .codec = "f16", .policy = FullLoad{}, .meaning = "two bytes a value, all of them read"},
      {.name = "load-int8", .codec = "int8", .policy = FullLoad{}, .meaning = "one byte a value, all of them read"},
      {.name = "load-int4", .codec = "int4", .policy = FullLoad{}, .meaning = "half a byte a value, all of them read"},
      {.name = "minicache",
       .codec = "f16",
       .policy = AsStored{},
       .meaning = "neighbours of the deeper half merged, L/4 pairs, all of it read",
       .pairs = PairChoice::fixed_deep},
      {.name = "partial",
       .codec = "f16",
       .policy = AsStored{},
       .meaning = "the same front left out and recomputed in every layer, the rest read layer by layer beside it",
       .left_out = LeftOut::uniform_front},
      {.name = "partial-plain",
       .codec = "f16",
       .policy = PlainSplit{},
       .meaning = "the same without pipelining by layer: front, then rest, then prompt",
       .order = SegmentOrder::by_block},
      {.name = "cake",
       .codec = "f16",
       .policy = TwoPointers{},
       .meaning = "no plan: recompute forwards and read backwards until they meet",
       .order = SegmentOrder::by_block},
      {.name = "hcache",
       .codec = "f16",
       .policy = AsStored{},
       .meaning = "every layer's input is read and projected; layers before a cut are recomputed instead",
       .stored_as = StoredAs::hidden_states},
      {.name = "h2o",
       .codec = "f16",
       .policy = FullLoad{},
       .meaning = "only heavy hitters and the latest tokens are kept, as many bytes as krul-paper keeps",
       .stored_as = StoredAs::heavy_hitters},
      {.name = "krul-paper",
       .codec = "f16",
       .policy = AsStored{},
       .meaning = "the paper: L/4 pairs by attention merged, a pyramid of fronts left out and recomputed",
       .pairs = PairChoice::attention,
       .left_out = LeftOut::pyramid},
      {.name = "krul-paper-uniform",
       .codec = "f16",
       .policy = AsStored{},
       .meaning = "krul-paper with the same front in every layer, as many bytes as the pyramid stores",
       .pairs = PairChoice::attention,
       .left_out = LeftOut::uniform_front},
      {.name = "pyramid",
       .codec = "f16",
       .policy = AsStored{},
       .meaning = "krul-paper's pyramid without merging",
       .left_out = LeftOut::pyramid},
      {.name = "merge-attention",
       .codec = "f16",
       .policy = AsStored{},
       .meaning = "krul-paper's pairs merged, everything read",
       .pairs = PairChoice::attention},
      {.name = "merge-random",
       .codec = "f16",
       .policy = AsStored{},
       .meaning = "as many random pairs merged, everything read",
       .pairs = PairChoice::random},
      {.name = "merge-predictable",
       .codec = "f16",
       .policy = AsStored{},
       .meaning = "as many pairs, those whose rows predict each other best, merged, everything read",
       .pairs = PairChoice::predictable},
      {.name = "merge-values",
       .codec = "f16",
       .policy = AsStored{},
       .meaning = "krul-paper's pairs, only V merged, everything read",
       .pairs = PairChoice::attention,
       .merge = values_only},
      {.name = "merge-keys",
       .codec = "f16",
       .policy = AsStored{},
       .meaning = "krul-paper's pairs, only K merged, everything read",
       .pairs = PairChoice::attention,
       .merge = keys_only},
      {.name = "reuse",
       .codec = "f16",
       .policy = AsStored{},
       .meaning = "krul-paper's pairs, the shallower layer's rows used for both, everything read",
       .pairs = PairChoice::attention,
       .merge = DirectReuse{}},
      {.name = "krul-lossless",
       .codec = "exact",
       .policy = FullLoad{},
       .meaning = "the cache's own bytes, entropy coded, all of them read: bit for bit what was saved",
       .packed = true},
      {.name = "krul-codec",
       .codec = "int8",
       .policy = FullLoad{},
       .meaning =
           "groups of layers coded together by the model's profile, all of it read: 8 to 11 times smaller than f16",
       .step = step_of_codec,
       .kl = kl_of_codec},
      {.name = "krul-compact",
       .codec = "int4",
       .policy = FullLoad{},
       .meaning = "the same with larger steps: 10 to 14 times smaller",
       .step = step_of_compact,
       .kl = kl_of_compact,
       .finest = {-20},
       .coarsest = step_of_compact},
      {.name = "krul-small",
       .codec = "int4",
       .policy = AsStored{},
       .meaning =
           "fewest bytes: as large a front left out and recomputed as leaves restores twice as fast as recomputing, "
           "and as reading two bytes a value",
       .left_out = LeftOut::affordable_front,
       .step = step_of_small,
       .kl = kl_of_small},
      {.name = "krul",
       .codec = "int8",
       .policy = DefaultPolicy{},
       .meaning =
           "the default: krul-codec's coding (one byte a value without a profile, or where the link is so fast that "
           "it is sooner), every row stored, the fronts that are fastest for the link",
       .step = step_of_codec,
       .kl = kl_of_codec,
       .codes_for_link = true},
  };
  return all;
}

/// @return invalid_argument that lists the names, if there is no such strategy
[[nodiscard]] inline Result<Strategy> strategy_named(std::string_view name) {
  std::string names;
  for (const auto& strategy : strategies()) {
    if (strategy.name == name) return strategy;
    names += (names.empty() ? "" : ", ") + std::string(strategy.name);
  }
  return fail(ErrorCode::invalid_argument, "unknown strategy \"" + std::string(name) + "\"; there are: " + names);
}

/// Several names, separated by commas.
[[nodiscard]] inline Result<std::vector<Strategy>> strategies_named(const std::string& names) {
  std::vector<Strategy> found;
  std::stringstream list(names);
  for (std::string name; std::getline(list, name, ',');) {
    auto strategy = strategy_named(name);
    if (!strategy) return propagate(strategy);
    found.push_back(std::move(*strategy));
  }
  return found;
}

}  // namespace krul
