#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "krul/backend/kv_rows.hpp"
#include "krul/compress/block_context.hpp"
#include "krul/compress/chunk_coder.hpp"
#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/joint/profile.hpp"
#include "krul/core/error.hpp"

namespace krul {

/// Codes K and V of a group of neighbouring layers together, by what was calibrated for the model.
///
/// Keys are turned back by their rotary embedding; what the tokens themselves predict is taken off; the rest is rotated
/// so that few coefficients hold most of it, each rounded to the same step in a space where an error counts by what it
/// does to the model's output; the whole numbers are entropy coded. Chunk, little-endian:
///
///   id of the profile u64, step code i8, form of the first row u8, the first row, classes of the other rows if there
///   are some, length u16 of what follows, indices of tables (encode_tables), symbols
///
/// Rows may have classes of steps (StepClasses). They are then coded in the order of their classes, in runs of 32 that
/// have their own columns and tables.
///
/// The row at position 0 is kept apart: models let most attention rest on it, so that an error there touches
/// everything. Its form is 0 where the block does not begin there, 1 for [layers, 2, G, D] in the cache's element type,
/// and 2 if it is the profile's, which it is wherever a model's conversations begin with the same token; 4 more if
/// there are classes. The coded columns of K, then those of V, are one SymbolBlock each run. A column counts as long as
/// its spread, moved by the step's scale, is at least `least_spread`, and is coded if its expected table is at least
/// `least_table`. What drives the symbols is integers only; a chunk decodes by itself.
/// @source transform across layers and keys without rotary embedding: KVTC, arXiv:2511.01815 (second-hand); weights,
///         prediction from tokens, step by sensitivity: ours
class JointTransform {
 public:
  static constexpr std::uint8_t least_table = 17;   ///< half a step, as Laplace
  static constexpr std::uint8_t least_spread = 11;  ///< a fifth: what is predicted errs alike for a token each time

  JointTransform() = default;
  /// @throws PreconditionError without a profile, or if it has no such group
  JointTransform(std::shared_ptr<const Profile> profile, std::size_t group, StepScale step = {})
      : profile_(std::move(profile)), group_(group), step_(step) {
    expects(profile_ != nullptr && group_ < profile_->data().groups.size(), "JointTransform: no such group");
  }

  [[nodiscard]] std::string name() const { return std::string(sharings_by_number[joint_coding >> 4]); }
  /// 0 without a profile.
  [[nodiscard]] std::size_t layers() const noexcept { return profile_ ? profile_->data().groups[group_].layers : 0; }
  [[nodiscard]] const std::shared_ptr<const Profile>& profile() const noexcept { return profile_; }
  [[nodiscard]] StepScale step() const noexcept { return step_; }

  /// No chunk of so many tokens is longer: every symbol as an escape of 34 bits.
  [[nodiscard]] std::size_t largest_bytes(const Geometry& geometry, std::size_t rows) const;

  /// @param group  [layers()], each [T, G, D] with the same T >= 1
  /// @throws PreconditionError without a profile, if a length does not fit, or if the profile wants features and there
  ///         are none
  /// @complexity O(T n C); about 0.15 core-ms a token for 30 layers of 192 values
  [[nodiscard]] std::vector<std::byte> encode(const Geometry& geometry, std::span<const KvRows> group,
                                              const BlockContext& context) const;

  /// @return unsupported if the chunk was coded with another profile, or features are missing; corrupt or truncated if
  ///         it is not one of T tokens
  /// @throws PreconditionError without a profile, or if a length of `group` does not fit
  /// @complexity O(T n C); about 0.1 core-ms a token for 30 layers of 192 values
  [[nodiscard]] Status decode(const Geometry& geometry, std::span<const std::byte> chunk,
                              std::span<const MutableKvRows> group, const BlockContext& context) const;

 private:
  void append_first_row(const Geometry& geometry, std::span<const KvRows> group, std::size_t rows,
                        std::vector<std::byte>& chunk) const;

  std::shared_ptr<const Profile> profile_;
  std::size_t group_ = 0;
  StepScale step_;
};
static_assert(ChunkCoder<JointTransform>);

}  // namespace krul
