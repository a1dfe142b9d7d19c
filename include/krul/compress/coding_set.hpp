#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/compress/any_chunk_coder.hpp"
#include "krul/compress/any_codec.hpp"
#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/direct_reuse.hpp"
#include "krul/compress/joint_transform.hpp"
#include "krul/compress/packed.hpp"
#include "krul/compress/slerp_merge.hpp"

namespace krul {

/// What a stored chunk says of its coding, and what its save's plan adds to that.
struct StoredCoding {
  std::uint8_t number = 0;
  std::span<const std::string> names = {};  ///< of numbers from first_foreign_coding on, in this order
  std::size_t first_layer = 0;              ///< the shallowest one that was coded into the chunk
};

/// All that stored chunks can be decoded with: krul's codings, a profile, and coders from outside.
class CodingSet {
 public:
  CodingSet() = default;
  /// @param profile  of the model; may be none
  /// @param coders   of the caller's own; found by their names
  explicit CodingSet(std::shared_ptr<const Profile> profile, std::vector<AnyChunkCoder> coders = {})
      : profile_(std::move(profile)), coders_(std::move(coders)) {}

  [[nodiscard]] const std::shared_ptr<const Profile>& profile() const noexcept { return profile_; }
  void set_profile(std::shared_ptr<const Profile> profile) { profile_ = std::move(profile); }
  /// One more.
  void add(AnyChunkCoder coder) { coders_.push_back(std::move(coder)); }

  /// Whether chunks of a coder of this name can be decoded.
  [[nodiscard]] bool has(const std::string& name) const {
    const auto is_named = [&](const AnyChunkCoder& coder) { return coder.name() == name; };
    return krul_coding_number(name) || std::ranges::any_of(coders_, is_named);
  }

  /// The coder of a stored chunk. Good for decoding only: settings of an encoder are not stored.
  /// @return unsupported if this build does not know it; not_found if it needs a profile or a coder that is not here
  [[nodiscard]] Result<AnyChunkCoder> find(const StoredCoding& stored) const {
    if (stored.number >= first_foreign_coding) return find_foreign(stored);
    const std::size_t sharing = stored.number >> 4;
    const auto codec = row_codec_from_number(stored.number & 0xfU);
    if (!codec) return propagate(codec);
    if (stored.number == joint_coding) return find_joint(stored.first_layer);
    const auto coder = [&](auto shares) -> Result<AnyChunkCoder> {
      return AnyChunkCoder(LayerPairCompressor(std::move(shares), *codec));
    };
    if (sharing == 0) return coder(Separate{});
    if (sharing == 1) return coder(SlerpMerge{});
    if (sharing == 2) return coder(DirectReuse{});
    if (sharing == 5) return coder(Packed{});
    return fail(ErrorCode::unsupported,
                "sharing number " + std::to_string(sharing) + " is unknown: use a newer krul or save again");
  }

 private:
  [[nodiscard]] Result<AnyChunkCoder> find_joint(std::size_t first_layer) const {
    const std::size_t group = profile_ ? profile_->group_at(first_layer) : 0;
    if (!profile_ || group == profile_->data().groups.size())
      return fail(ErrorCode::not_found,
                  "rows were coded with a profile that is not at hand: give krul the profile, or they are recomputed");
    return AnyChunkCoder(JointTransform(profile_, group));
  }
  [[nodiscard]] Result<AnyChunkCoder> find_foreign(const StoredCoding& stored) const {
    const std::size_t index = stored.number - first_foreign_coding;
    if (index >= stored.names.size())
      return fail(ErrorCode::corrupt, "a chunk names a coder that its plan does not: recompute these tokens");
    const auto found = std::find_if(coders_.begin(), coders_.end(),
                                    [&](const AnyChunkCoder& coder) { return coder.name() == stored.names[index]; });
    if (found == coders_.end())
      return fail(ErrorCode::not_found, "rows were coded by \"" + stored.names[index] +
                                            "\", which is not at hand: give krul that coder, or they are recomputed");
    return *found;
  }

  std::shared_ptr<const Profile> profile_;
  std::vector<AnyChunkCoder> coders_;
};

}  // namespace krul
