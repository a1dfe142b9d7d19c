#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/compress/any_chunk_coder.hpp"
#include "krul/compress/any_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/compress/joint/profile.hpp"
#include "krul/compress/joint/recent_rows.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/core/tokens.hpp"
#include "krul/similarity/row_attention.hpp"
#include "krul/store/manifest.hpp"
#include "krul/store/segment.hpp"
#include "krul/strategy/layer_pair.hpp"

namespace krul {

/// What a save will store and how it is coded. Pure data.
///
/// A block that both layers of a pair store is one chunk, coded by `pair_coding`; everything else is coded layer by
/// layer. With a profile, all layers are coded in its groups instead. The fronts that a later restore will recompute
/// may be left out, as the paper does. Rows that were saved before keep their coding, and a front that was left out
/// stays out.
struct SavePlan {
  AnyChunkCoder coding = separate_coder(Int8Codec{});  ///< of single layers
  AnyChunkCoder pair_coding = {};                      ///< of pairs, if there are some: two layers
  std::vector<LayerPair> pairs;                        ///< disjoint; none with a profile
  std::shared_ptr<const Profile> profile;              ///< of the model, for coding its groups of layers; may be none
  StepScale step;                                      ///< with a profile: how coarsely
  RecentRows recent;                                   ///< with a profile: which rows are coded more finely
  std::vector<std::uint8_t> classes;  ///< [groups, rows] with a profile: how finely each row is coded; empty: all alike
  std::vector<std::size_t> left_out;  ///< [L] leading tokens of each layer that are not stored; empty: all are stored
  std::vector<bool> from_source;      ///< [L] layers whose chunks a ChunkSource makes, not of K and V; empty: none
  SegmentOrder order = SegmentOrder::by_layer;  ///< how the chunks of this save lie
  std::string strategy = "krul";                ///< recorded for people
  std::string settings;                         ///< recorded for people
  std::optional<StepScale> measured_step;       ///< recorded for later saves: rows that were restored no longer tell
  std::shared_ptr<const RowAttention> row_attention;  ///< recorded for later saves: what rows received before; may be
                                                      ///< none

  /// Every row of every layer by itself.
  template <RowCodec Codec>
  [[nodiscard]] static SavePlan separate(Codec codec, std::string strategy = "krul") {
    SavePlan plan;
    if constexpr (std::convertible_to<Codec, AnyRowCodec>) {  // krul's own are compiled already
      plan.coding = separate_coder(std::move(codec));
    } else {
      plan.coding = LayerPairCompressor(Separate{}, std::move(codec));
    }
    plan.strategy = std::move(strategy);
    return plan;
  }
  /// Every row, coded in the groups of a profile.
  [[nodiscard]] static SavePlan joint(std::shared_ptr<const Profile> profile, StepScale step,
                                      std::string strategy = "krul") {
    SavePlan plan;
    plan.profile = std::move(profile);
    plan.step = step;
    plan.strategy = std::move(strategy);
    return plan;
  }
  /// The classes of some of `rows` rows in the group of a layer.
  [[nodiscard]] std::span<const std::uint8_t> classes_of(std::size_t layer, TokenRange tokens, std::size_t rows) const;
  /// What the manifest remembers of it.
  [[nodiscard]] SavePlanRecord record() const;
};

/// The number that a chunk of a coder gets under a record.
/// @throws PreconditionError if the coder is neither krul's nor named by the record
[[nodiscard]] std::uint8_t coding_number(const AnyChunkCoder& coder, const SavePlanRecord& record);

/// @throws PreconditionError unless pairs are disjoint and coded as pairs, single layers as single layers, and what is
///         left out does not grow with depth
void expects_valid(const SavePlan& plan, std::size_t layers);

}  // namespace krul
