#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "krul/compress/any_chunk_coder.hpp"
#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/compress/joint/profile.hpp"
#include "krul/compress/joint/recent_rows.hpp"
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
  AnyChunkCoder coding = LayerPairCompressor(Separate{}, Int8Codec{});  ///< of single layers
  AnyChunkCoder pair_coding = {};                                       ///< of pairs, if there are some: two layers
  std::vector<LayerPair> pairs;                                         ///< disjoint; none with a profile
  std::shared_ptr<const Profile> profile;  ///< of the model, for coding its groups of layers; may be none
  StepScale step;                          ///< with a profile: how coarsely
  RecentRows recent;                       ///< with a profile: which rows are coded more finely
  std::vector<std::size_t> left_out;  ///< [L] leading tokens of each layer that are not stored; empty: all are stored
  std::vector<bool> from_source;      ///< [L] layers whose chunks a ChunkSource makes, not of K and V; empty: none
  SegmentOrder order = SegmentOrder::by_layer;  ///< how the chunks of this save lie
  std::string strategy = "krul";                ///< recorded for people
  std::string settings;                         ///< recorded for people
  std::optional<StepScale> measured_step;       ///< recorded for later saves: rows that were restored no longer tell

  /// Every row of every layer by itself.
  template <RowCodec Codec>
  [[nodiscard]] static SavePlan separate(Codec codec, std::string strategy = "krul") {
    SavePlan plan;
    plan.coding = LayerPairCompressor(Separate{}, std::move(codec));
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
  /// What the manifest remembers of it.
  [[nodiscard]] SavePlanRecord record() const {
    SavePlanRecord record{strategy, profile ? std::string(profile_prefix) + profile->hash() : coding.name(), settings,
                          profile ? profile->hash() : std::string()};
    if (measured_step) record.measured_step = measured_step->code;
    for (const AnyChunkCoder* coder : {&coding, pairs.empty() ? nullptr : &pair_coding})
      if (coder && !profile && !krul_coding_number(coder->name())) record.coders.push_back(coder->name());
    return record;
  }
};

/// The number that a chunk of a coder gets under a record.
/// @throws PreconditionError if the coder is neither krul's nor named by the record
[[nodiscard]] inline std::uint8_t coding_number(const AnyChunkCoder& coder, const SavePlanRecord& record) {
  const std::string name = coder.name();
  if (const auto number = krul_coding_number(name)) return *number;
  const auto found = std::find(record.coders.begin(), record.coders.end(), name);
  expects(found != record.coders.end(), "coding_number: the record does not name the coder");
  return static_cast<std::uint8_t>(first_foreign_coding + (found - record.coders.begin()));
}

/// @throws PreconditionError unless pairs are disjoint and coded as pairs, single layers as single layers, and what is
///         left out does not grow with depth
inline void expects_valid(const SavePlan& plan, std::size_t layers) {
  expects_disjoint(plan.pairs, layers);
  expects(plan.coding.layers() == 1, "SavePlan: the coding of single layers codes one layer");
  expects(plan.pairs.empty() || plan.pair_coding.layers() == 2, "SavePlan: the coding of pairs codes two layers");
  expects(plan.left_out.empty() || plan.left_out.size() == layers, "SavePlan: left_out needs an entry for each layer");
  expects(std::is_sorted(plan.left_out.rbegin(), plan.left_out.rend()),
          "SavePlan: a deeper layer leaves out no more than a shallower one");
  expects(plan.from_source.empty() || plan.from_source.size() == layers,
          "SavePlan: from_source needs an entry for each layer");
  expects(!plan.profile || (plan.pairs.empty() && plan.from_source.empty()),
          "SavePlan: with a profile, all layers are coded in its groups");
  for (const LayerPair& pair : plan.pairs)
    expects(plan.from_source.empty() || (!plan.from_source[pair.shallow] && !plan.from_source[pair.deep]),
            "SavePlan: layers of a pair store K and V");
}

}  // namespace krul
