#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/compress/any_chunk_coder.hpp"
#include "krul/core/error.hpp"

namespace krul {

class Profile;

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
  [[nodiscard]] bool has(const std::string& name) const;

  /// The coder of a stored chunk. Good for decoding only: settings of an encoder are not stored.
  /// @return unsupported if this build does not know it; not_found if it needs a profile or a coder that is not here
  [[nodiscard]] Result<AnyChunkCoder> find(const StoredCoding& stored) const;

 private:
  [[nodiscard]] Result<AnyChunkCoder> find_joint(std::size_t first_layer) const;
  [[nodiscard]] Result<AnyChunkCoder> find_foreign(const StoredCoding& stored) const;

  std::shared_ptr<const Profile> profile_;
  std::vector<AnyChunkCoder> coders_;
};

}  // namespace krul
