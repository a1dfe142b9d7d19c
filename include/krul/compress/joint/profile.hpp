#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krul/compress/entropy/symbol_encoder.hpp"
#include "krul/compress/entropy/table_set.hpp"
#include "krul/compress/joint/int8_panels.hpp"
#include "krul/core/error.hpp"
#include "krul/core/geometry.hpp"

namespace krul {

/// What was calibrated for K, or for V, of a group of neighbouring layers. Pure data.
///
/// With x the n = layers * G * D values of one token (keys with the rotary embedding undone) and f its F features:
///   y  = W (x - mean)                  W symmetric, a block [D, D] for each layer and head: what an error does
///   c  = Q^T y - R f                   Q [n, C] has orthonormal columns; one step of c is one step of the profile. The
///                                      first C1 are coded first and taken off y, the others see what is left
///   x' = mean + W^-1 Q (c' + R f)      c' is c as it was coded: rounded, or zero
/// Columns lie in descending order of how far their values spread, coded or predicted: at a coarse step the last ones
/// are left out.
struct TensorTransform {
  std::vector<float> mean;                ///< [n]
  std::vector<std::uint16_t> weights;     ///< [layers * G, D * (D + 1) / 2] f16, lower triangles of W over its scale
  std::vector<float> weight_scales;       ///< [layers * G]
  std::vector<std::uint16_t> wide_basis;  ///< [C1, n] bf16: the first columns of Q
  std::vector<std::int8_t> narrow_basis;  ///< [C - C1, n]: the others, over their scale
  std::vector<float> narrow_scales;       ///< [C - C1]
  std::vector<std::int8_t> prediction;    ///< [C, F]: R over its scale
  std::vector<float> prediction_scales;   ///< [C]; empty without features
  std::vector<std::uint8_t> spreads;      ///< [C] the larger of both, as a table's index; not ascending
  std::vector<std::uint8_t> tables;       ///< [C] expected index into TableSet::universal(), <= spreads

  [[nodiscard]] std::size_t columns() const noexcept { return tables.size(); }
  friend bool operator==(const TensorTransform&, const TensorTransform&) = default;
};

/// A group of neighbouring layers that are coded together.
struct GroupTransform {
  std::size_t first_layer = 0, layers = 0;
  TensorTransform keys, values;
  friend bool operator==(const GroupTransform&, const GroupTransform&) = default;
};

/// What was calibrated for a model, as it is stored. Pure data.
struct ProfileData {
  std::string model;                     ///< hash of the weights it was made for
  std::string geometry;                  ///< describe(Geometry)
  std::string notes;                     ///< for people: what it was calibrated on
  std::size_t features = 0;              ///< F: 0, or the model's hidden width (TokenFeatures)
  std::vector<std::uint16_t> first_row;  ///< [L, 2, G, D] f16: K and V that conversations have at position 0
  std::vector<GroupTransform> groups;    ///< of all layers, one after the other
  friend bool operator==(const ProfileData&, const ProfileData&) = default;
};

/// How coarse the steps of a chunk are: 2^(code / 16) of the profile's. Quality is this number alone.
struct StepScale {
  std::int8_t code = 0;
  [[nodiscard]] float factor() const noexcept;
  /// The table to expect where a profile expects `index`: integers only, equal everywhere.
  /// @param coarser  StepClasses by which rows are coarser than the step says
  [[nodiscard]] std::uint8_t expected_table(std::uint8_t index, int coarser = 0) const noexcept;
  friend bool operator==(const StepScale&, const StepScale&) = default;
};

/// Steps worth choosing: below, what a profile leaves out is most of the error; above, texts lose their sense.
inline constexpr StepScale finest_step{-40}, coarsest_step{12};

/// ProfileData made ready to code with. Immutable, so one serves all threads.
class Profile {
 public:
  /// One tensor of one group, packed for products.
  struct Tensor {
    std::vector<float> mean;             ///< [n]
    std::vector<float> weights;          ///< [layers * G, D, D]: W
    std::vector<float> wide;             ///< [C1, n]: the first columns of Q, whose coefficients are too large for int8
    std::vector<float> wide_transposed;  ///< [n, wide_stride()], what is no column is zero
    Int8Panels analysis;                 ///< [n, C - C1]: the others, over their scales
    std::vector<float> scales;           ///< [C - C1]
    std::vector<float> wide_synthesis;   ///< [C1, n]: the first rows of Q^T W^-1
    Int8Panels synthesis;                ///< [C - C1, n]: the others, over `scales`; the mean is their offset
    Int8Panels prediction;               ///< [F, C]: R^T, over its scales
    std::vector<float> prediction_scales;       ///< [C]
    std::vector<std::uint8_t> spreads, tables;  ///< [C]
    [[nodiscard]] std::size_t wide_columns() const noexcept { return wide.size() / mean.size(); }
    [[nodiscard]] std::size_t wide_stride() const noexcept { return wide_transposed.size() / mean.size(); }
  };

  /// @return corrupt or too_large unless all sizes fit together, W can be inverted, and check_numbers finds nothing
  [[nodiscard]] static Result<std::shared_ptr<const Profile>> create(ProfileData data, const Geometry& geometry);

  [[nodiscard]] const ProfileData& data() const noexcept { return data_; }
  [[nodiscard]] const Tensor& keys(std::size_t group) const { return tensors_.at(2 * group); }
  [[nodiscard]] const Tensor& values(std::size_t group) const { return tensors_.at(2 * group + 1); }
  /// The group whose first layer this is; groups().size() if there is none.
  [[nodiscard]] std::size_t group_at(std::size_t first_layer) const noexcept;
  /// First eight bytes of the checksum of the serialized profile: what chunks say.
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  /// 32 hexadecimal digits: the checksum of the serialized profile.
  [[nodiscard]] const std::string& hash() const noexcept { return hash_; }
  [[nodiscard]] const TableSet& tables() const noexcept { return table_set_; }
  [[nodiscard]] const SymbolEncoder& encoder() const noexcept { return encoder_; }

 private:
  explicit Profile(ProfileData data)
      : data_(std::move(data)), table_set_(TableSet::universal()), encoder_(table_set_) {}

  ProfileData data_;
  TableSet table_set_;
  SymbolEncoder encoder_;
  std::vector<Tensor> tensors_;  // [groups, 2]
  std::uint64_t id_ = 0;
  std::string hash_;
};

/// The bytes of docs/format.md, ending in their checksum.
[[nodiscard]] std::vector<std::byte> serialize(const ProfileData& profile);

/// Reads what serialize wrote. Memory stays proportional to the bytes that were given.
/// @return truncated, corrupt or unsupported_version
[[nodiscard]] Result<ProfileData> parse_profile(std::span<const std::byte> bytes);

}  // namespace krul
