#include "krul/compress/coding_set.hpp"

#include <algorithm>

#include "krul/compress/any_codec.hpp"
#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/direct_reuse.hpp"
#include "krul/compress/joint_transform.hpp"
#include "krul/compress/packed.hpp"
#include "krul/compress/slerp_merge.hpp"

namespace krul {

bool CodingSet::has(const std::string& name) const {
  const auto is_named = [&](const AnyChunkCoder& coder) { return coder.name() == name; };
  return krul_coding_number(name) || std::ranges::any_of(coders_, is_named);
}

Result<AnyChunkCoder> CodingSet::find(const StoredCoding& stored) const {
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

Result<AnyChunkCoder> CodingSet::find_joint(std::size_t first_layer) const {
  const std::size_t group = profile_ ? profile_->group_at(first_layer) : 0;
  if (!profile_ || group == profile_->data().groups.size())
    return fail(ErrorCode::not_found,
                "rows were coded with a profile that is not at hand: give it in ConversationOptions::codings, or by a "
                "strategy that has it; else they are recomputed");
  return AnyChunkCoder(JointTransform(profile_, group));
}

Result<AnyChunkCoder> CodingSet::find_foreign(const StoredCoding& stored) const {
  const std::size_t index = stored.number - first_foreign_coding;
  if (index >= stored.names.size())
    return fail(ErrorCode::corrupt, "a chunk names a coder that its plan does not: recompute these tokens");
  const auto found = std::find_if(coders_.begin(), coders_.end(),
                                  [&](const AnyChunkCoder& coder) { return coder.name() == stored.names[index]; });
  if (found == coders_.end())
    return fail(ErrorCode::not_found, "rows were coded by \"" + stored.names[index] +
                                          "\", which is not at hand: give that coder in ConversationOptions::codings, "
                                          "or they are recomputed");
  return *found;
}

}  // namespace krul
