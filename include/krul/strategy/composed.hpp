#pragma once

#include <concepts>
#include <string>
#include <utility>

#include "krul/compress/any_chunk_coder.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/restore/as_stored.hpp"
#include "krul/strategy/fixed_pairs.hpp"
#include "krul/strategy/strategy.hpp"
#include "krul/strategy/strategy_selector.hpp"

namespace krul {

/// The coding of single layers that goes with one of pairs: the same row codec, nothing shared.
template <SharingPolicy Sharing, RowCodec Codec>
[[nodiscard]] AnyChunkCoder single_layer_coding(const LayerPairCompressor<Sharing, Codec>& coding) {
  if (coding.layers() == 1) return coding;
  return LayerPairCompressor(Separate{}, coding.codec());
}
/// Any coder of single layers goes with itself.
/// @throws PreconditionError if it codes several layers
template <ChunkCoder Coding>
[[nodiscard]] AnyChunkCoder single_layer_coding(const Coding& coding) {
  expects(coding.layers() == 1, "single_layer_coding: a coder of pairs needs one for single layers beside it");
  return coding;
}

/// Whether a selection policy decides from the conversation's attention. One that does not may say so by a member
/// `static constexpr bool looks_at_attention = false`.
template <SelectionPolicy Selection>
inline constexpr bool looks_at_attention = [] {
  if constexpr (requires { Selection::looks_at_attention; }) {
    return static_cast<bool>(Selection::looks_at_attention);
  } else {
    return true;
  }
}();

/// Whether a selection policy decides from how well layers predict each other, which it says by a member
/// `static constexpr bool looks_at_predictability = true`.
template <SelectionPolicy Selection>
inline constexpr bool looks_at_predictability = [] {
  if constexpr (requires { Selection::looks_at_predictability; }) {
    return static_cast<bool>(Selection::looks_at_predictability);
  } else {
    return false;
  }
}();

/// A strategy from parts, each of them krul's or anyone's.
/// @tparam Selection  which layers are coded together
/// @tparam Coding     how: LayerPairCompressor<SlerpMerge, F16Codec> and the like, or any ChunkCoder
/// @tparam LeftOut    which rows a save leaves out, as the restore policy that would recompute them
/// @tparam Restore    which rows a restore recomputes
template <SelectionPolicy Selection, ChunkCoder Coding, RestorePolicy LeftOut = FullLoad,
          RestorePolicy Restore = AsStored>
class Composed {
 public:
  struct Parts {
    Selection selection = Selection();
    Coding coding = Coding();
    LeftOut left_out = LeftOut();
    Restore restore = Restore();
    double kept_share = 0.75;                     ///< of the layers' K and V that remain after sharing
    SegmentOrder order = SegmentOrder::by_layer;  ///< how the chunks of a save lie
  };

  explicit Composed(std::string name) : Composed(std::move(name), Parts{}) {}
  Composed(std::string name, Parts parts) : name_(std::move(name)), parts_(std::move(parts)) {}

  [[nodiscard]] std::string name() const { return name_; }
  [[nodiscard]] Needs needs() const {
    constexpr bool weighs = !std::same_as<LeftOut, FullLoad> && !std::same_as<LeftOut, FullRecompute>;
    return {.codings = {codings()},
            .attention = looks_at_attention<Selection>,
            .block_bytes = weighs,
            .costs = weighs,
            .predictability = looks_at_predictability<Selection>};
  }
  /// @throws PreconditionError as StrategySelector::select
  [[nodiscard]] Result<SavePlan> plan(const Evidence& evidence) const {
    return StrategySelector<Selection, LeftOut>(parts_.selection, parts_.left_out, parts_.kept_share)
        .select(codings(), evidence);
  }
  [[nodiscard]] Restore restore_policy() const { return parts_.restore; }

 private:
  [[nodiscard]] SavePlan codings() const {
    SavePlan plan;
    plan.coding = single_layer_coding(parts_.coding);
    if (parts_.coding.layers() == 2) plan.pair_coding = parts_.coding;
    plan.order = parts_.order;
    plan.strategy = name_;
    return plan;
  }

  std::string name_;
  Parts parts_;
};
static_assert(Strategy<Composed<NoSharing, LayerPairCompressor<>>>);

}  // namespace krul
