#include "krul/compress/joint/profile.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>

#include "../plausible.hpp"
#include "head_products.hpp"
#include "krul/compress/profile_numbers.hpp"
#include "krul/core/byte_io.hpp"
#include "krul/core/checksum.hpp"
#include "krul/core/half.hpp"
#include "krul/core/identity.hpp"

namespace krul {
namespace {

static_assert(std::endian::native == std::endian::little, "profiles are stored as a little-endian machine holds them");

constexpr std::string_view magic = "KRULPRO\n";
constexpr std::uint16_t version = 2;
constexpr std::size_t most_layers = 1 << 12, most_text = 1 << 16, most_values = std::size_t{1} << 28;
// Tables come in pairs of two shapes; from one pair to the next the deviation grows by 2^(3/8), or 6 codes of a scale.
constexpr int codes_per_pair = 6;

tl::unexpected<Error> damaged(const std::string& what) {
  return fail(ErrorCode::corrupt,
              "the profile is damaged: " + what +
                  "; make it again with calibrate_profile, or krul calibrate for krul's own models");
}

class Writer : public ByteWriter {
 public:
  template <class Container>
  void list(const Container& values) {
    number(static_cast<std::uint64_t>(values.size()));
    raw(std::as_bytes(std::span(values)));
  }
  /// Six bits each for the last values, as long as they fit: the columns that matter least are coarser.
  void list(const std::vector<std::int8_t>& values) {
    const auto is_short = [](std::int8_t value) { return value >= -32 && value <= 31; };
    const auto whole_end = std::find_if_not(values.rbegin(), values.rend(), is_short).base();
    const auto shorts = static_cast<std::size_t>(values.end() - whole_end) / 4 * 4, whole = values.size() - shorts;
    number(static_cast<std::uint64_t>(whole));
    number(static_cast<std::uint64_t>(shorts));
    raw(std::as_bytes(std::span(values).first(whole)));
    for (std::size_t i = whole; i < values.size(); i += 4) {
      std::uint32_t four = 0;
      for (std::size_t j = 0; j < 4; ++j) four |= (static_cast<std::uint32_t>(values[i + j]) & 63U) << 6 * j;
      for (int shift = 0; shift < 24; shift += 8) number(static_cast<std::uint8_t>(four >> shift));
    }
  }
};

class Reader : public ByteReader {
 public:
  using ByteReader::ByteReader;
  template <class Container>
  [[nodiscard]] Container list() {
    constexpr std::size_t size = sizeof(typename Container::value_type);
    const auto bytes = take(number<std::uint64_t>(), size);
    Container values(bytes.size() / size, typename Container::value_type{});
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  void list(std::vector<std::int8_t>& values) {
    const auto whole = number<std::uint64_t>(), shorts = number<std::uint64_t>();
    for (const std::byte value : take(whole)) values.push_back(static_cast<std::int8_t>(value));
    const auto packed = take(shorts / 4, 3);
    for (std::size_t i = 0; i < packed.size(); i += 3) {
      std::uint32_t four = 0;
      for (std::size_t j = 0; j < 3; ++j) four |= std::to_integer<std::uint32_t>(packed[i + j]) << 8 * j;
      for (int shift = 26; shift > 2; shift -= 6)  // the sign comes from the uppermost bit
        values.push_back(static_cast<std::int8_t>(static_cast<std::int32_t>(four << shift) >> 26));
    }
  }
  template <class Container>
  void list(Container& values) {
    values = list<Container>();
  }
};

/// Calls visit(field) for everything of a transform that is stored, in its order.
template <class Tensor, class Visit>
void each_field(Tensor& tensor, Visit&& visit) {
  visit(tensor.mean);
  visit(tensor.weights);
  visit(tensor.weight_scales);
  visit(tensor.wide_basis);
  visit(tensor.narrow_basis);
  visit(tensor.narrow_scales);
  visit(tensor.prediction);
  visit(tensor.prediction_scales);
  visit(tensor.spreads);
  visit(tensor.tables);
}

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

/// Whether the sizes of a transform fit a group of `blocks` heads of D dimensions.
Status check(const TensorTransform& tensor, std::size_t blocks, std::size_t head_dim, std::size_t features) {
  const std::size_t n = blocks * head_dim, columns = tensor.columns(), narrow = tensor.narrow_scales.size();
  if (n == 0 || columns == 0 || columns > n || narrow > columns) return damaged("a basis has another shape");
  if (tensor.mean.size() != n || tensor.weights.size() != blocks * (head_dim * (head_dim + 1) / 2) ||
      tensor.weight_scales.size() != blocks || tensor.wide_basis.size() != (columns - narrow) * n ||
      tensor.narrow_basis.size() != narrow * n || tensor.prediction.size() != columns * features ||
      tensor.prediction_scales.size() != (features == 0 ? 0 : columns))
    return damaged("its parts have other lengths than each other");
  if (!all_finite(tensor.mean) || !all_finite(tensor.weight_scales) || !all_finite(tensor.narrow_scales) ||
      !all_finite(tensor.prediction_scales))
    return damaged("it holds numbers that are not finite");
  if (tensor.spreads.size() != columns || tensor.spreads.front() >= TableSet::largest_size ||
      !std::is_sorted(tensor.spreads.rbegin(), tensor.spreads.rend()) ||
      !std::equal(tensor.tables.begin(), tensor.tables.end(), tensor.spreads.begin(), std::less_equal<>()))
    return damaged("its columns are not in order");
  return {};
}

/// W [D, D] of one head from its lower triangle, and W^-1 by Cholesky's method in double.
/// @return false if W is not positive definite
bool expand_weight(std::span<const std::uint16_t> triangle, float scale, std::size_t size, float* weight,
                   float* inverse) {
  std::vector<double> a(size * size), x(size);
  for (std::size_t row = 0, next = 0; row < size; ++row)
    for (std::size_t column = 0; column <= row; ++column) {
      const float value = scale * float_from_f16(triangle[next++]);
      weight[row * size + column] = weight[column * size + row] = value;
      a[row * size + column] = value;
    }
  for (std::size_t j = 0; j < size; ++j) {
    for (std::size_t i = j; i < size; ++i) {
      double sum = a[i * size + j];
      for (std::size_t k = 0; k < j; ++k) sum -= a[i * size + k] * a[j * size + k];
      if (i == j) {
        if (!(sum > 0) || !std::isfinite(sum)) return false;
        a[j * size + j] = std::sqrt(sum);
      } else {
        a[i * size + j] = sum / a[j * size + j];
      }
    }
  }
  for (std::size_t column = 0; column < size; ++column) {
    for (std::size_t i = 0; i < size; ++i) {
      double sum = i == column ? 1 : 0;
      for (std::size_t k = 0; k < i; ++k) sum -= a[i * size + k] * x[k];
      x[i] = sum / a[i * size + i];
    }
    for (std::size_t i = size; i-- > 0;) {
      double sum = x[i];
      for (std::size_t k = i + 1; k < size; ++k) sum -= a[k * size + i] * x[k];
      x[i] = sum / a[i * size + i];
      inverse[i * size + column] = static_cast<float>(x[i]);
    }
  }
  return true;
}

/// The rows of Q^T W^-1, or of some of its columns over a scale.
/// @param rows  [columns, n] of Q^T
std::vector<float> unweighted(const std::vector<float>& rows, std::span<const float> unweights, std::size_t head_dim) {
  const std::size_t n = unweights.size() / head_dim;
  std::vector<float> result(rows.size());
  detail::multiply_heads(unweights, head_dim, rows.size() / n, {rows.data(), n}, {result.data(), n});
  return result;
}

/// all_below of rows [scales.size(), n], each times its scale.
bool all_scaled_below(std::span<const float> rows, std::span<const float> scales, float limit) {
  const std::size_t n = rows.size() / std::max<std::size_t>(scales.size(), 1);
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (!(std::abs(rows[i] * scales[i / n]) <= limit)) return false;
  return true;
}

Result<Profile::Tensor> pack(const TensorTransform& from, std::size_t blocks, std::size_t head_dim,
                             std::size_t features) {
  Profile::Tensor to;
  const std::size_t n = blocks * head_dim, columns = from.columns(), triangle = head_dim * (head_dim + 1) / 2;
  to.mean = from.mean;
  to.spreads = from.spreads;
  to.tables = from.tables;
  to.weights.resize(blocks * head_dim * head_dim);
  std::vector<float> unweights(to.weights.size());  // W^-1
  for (std::size_t i = 0; i < blocks; ++i)
    if (!expand_weight(std::span(from.weights).subspan(i * triangle, triangle), from.weight_scales[i], head_dim,
                       &to.weights[i * head_dim * head_dim], &unweights[i * head_dim * head_dim]))
      return damaged("a weight cannot be inverted");
  for (const std::uint16_t value : from.wide_basis) to.wide.push_back(float_from_bf16(value));
  const std::size_t wide = from.wide_basis.size() / n, lanes = Int8Panels::width,
                    stride = (wide + lanes - 1) / lanes * lanes;
  to.wide_transposed.resize(n * stride);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t column = 0; column < wide; ++column)
      to.wide_transposed[i * stride + column] = to.wide[column * n + i];
  to.scales = from.narrow_scales;
  to.analysis = Int8Panels::transposed(n, to.scales.size(), from.narrow_basis);
  to.wide_synthesis = unweighted(to.wide, unweights, head_dim);
  const auto synthesis =
      unweighted(std::vector<float>(from.narrow_basis.begin(), from.narrow_basis.end()), unweights, head_dim);
  if (!detail::all_below(to.wide_synthesis, detail::largest_value) ||
      !all_scaled_below(synthesis, to.scales, detail::largest_value))
    return damaged("a step moves a value by more than a cache holds");
  to.synthesis = Int8Panels::rounded(to.scales.size(), n, synthesis, to.mean);
  to.prediction_scales = from.prediction_scales;
  if (features > 0) to.prediction = Int8Panels::transposed(features, columns, from.prediction);
  return to;
}

}  // namespace

float StepScale::factor() const noexcept {
  // 2^(i / 16), rounded. The C library's power may differ in the last bit from processor to processor.
  static constexpr float roots[] = {0x1p0F,        0x1.0b5586p0F, 0x1.172b84p0F, 0x1.2387a6p0F,
                                    0x1.306fep0F,  0x1.3dea64p0F, 0x1.4bfdaep0F, 0x1.5ab07ep0F,
                                    0x1.6a09e6p0F, 0x1.7a1148p0F, 0x1.8ace54p0F, 0x1.9c4918p0F,
                                    0x1.ae89fap0F, 0x1.c199bep0F, 0x1.d5818ep0F, 0x1.ea4afap0F};
  return std::ldexp(roots[code & 15], code >> 4);
}

std::uint8_t StepScale::expected_table(std::uint8_t index, int coarser) const noexcept {
  const int half = codes_per_pair / 2;
  const int pairs = (code >= 0 ? code + half : code - half) / codes_per_pair;
  const int moved = int{index} - 2 * (pairs + coarser);
  return static_cast<std::uint8_t>(std::clamp(moved, 0, static_cast<int>(TableSet::largest_size) - 2));
}

std::size_t Profile::group_at(std::size_t first_layer) const noexcept {
  const auto& groups = data_.groups;
  return static_cast<std::size_t>(
      std::find_if(groups.begin(), groups.end(), [&](const auto& group) { return group.first_layer == first_layer; }) -
      groups.begin());
}

Result<std::shared_ptr<const Profile>> Profile::create(ProfileData data, const Geometry& geometry) {
  if (data.geometry != describe(geometry))
    return fail(ErrorCode::identity_mismatch,
                "the profile was made for another model (" + data.geometry +
                    "): make one for this model with calibrate_profile, or krul calibrate for krul's own models");
  if (data.features != 0 && (data.features != geometry.hidden || data.features % 2 != 0))
    return damaged("its features have another width");
  if (data.first_row.size() != geometry.layers * 2 * geometry.kv_values())
    return damaged("its first row has another length");
  std::size_t next = 0;
  for (const auto& group : data.groups) {
    if (group.first_layer != next || group.layers == 0 || group.layers > geometry.layers - next)
      return damaged("its groups are not all layers one after the other");
    next += group.layers;
    for (const auto* tensor : {&group.keys, &group.values})
      if (auto status = check(*tensor, group.layers * geometry.kv_heads, geometry.head_dim, data.features); !status)
        return propagate(status);
  }
  if (next != geometry.layers) return damaged("it does not describe every layer");

  std::shared_ptr<Profile> profile(new Profile(std::move(data)));
  const auto bytes = serialize(profile->data_);
  const Checksum hash = checksum(bytes);
  profile->hash_ = hexadecimal(hash);
  for (std::size_t i = 0; i < 8; ++i) profile->id_ = profile->id_ << 8 | hash[i];
  for (const auto& group : profile->data_.groups)
    for (const auto* tensor : {&group.keys, &group.values}) {
      auto packed = pack(*tensor, group.layers * geometry.kv_heads, geometry.head_dim, profile->data_.features);
      if (!packed) return propagate(packed);
      profile->tensors_.push_back(std::move(*packed));
    }
  if (auto status = check_numbers(*profile); !status) return propagate(status);
  return std::shared_ptr<const Profile>(std::move(profile));
}

std::vector<std::byte> serialize(const ProfileData& profile) {
  Writer writer;
  writer.raw(magic);
  writer.number(version);
  writer.list(profile.model);
  writer.list(profile.geometry);
  writer.list(profile.notes);
  writer.number(static_cast<std::uint64_t>(profile.features));
  writer.list(profile.first_row);
  writer.number(static_cast<std::uint64_t>(profile.groups.size()));
  for (const auto& group : profile.groups) {
    writer.number(static_cast<std::uint64_t>(group.first_layer));
    writer.number(static_cast<std::uint64_t>(group.layers));
    for (const auto* tensor : {&group.keys, &group.values})
      each_field(*tensor, [&](const auto& field) { writer.list(field); });
  }
  const Checksum hash = checksum(writer.bytes());
  writer.raw(std::as_bytes(std::span(hash)));
  return std::move(writer.bytes());
}

Result<ProfileData> parse_profile(std::span<const std::byte> bytes) {
  if (bytes.size() < magic.size() + sizeof version + sizeof(Checksum))
    return fail(
        ErrorCode::truncated,
        "the profile is too short: make it again with calibrate_profile, or krul calibrate for krul's own models");
  if (std::memcmp(bytes.data(), magic.data(), magic.size()) != 0) return damaged("it does not begin as one");
  const auto content = bytes.first(bytes.size() - sizeof(Checksum));
  Checksum stored;
  std::memcpy(stored.data(), bytes.data() + content.size(), stored.size());
  if (auto status = verify(content, stored, "the profile"); !status) return propagate(status);
  Reader reader(content.subspan(magic.size()));
  if (reader.number<std::uint16_t>() != version)
    return fail(ErrorCode::unsupported_version,
                "the profile was written by another version of krul: make it again with calibrate_profile, or krul "
                "calibrate for krul's own models");
  ProfileData profile;
  profile.model = reader.list<std::string>();
  profile.geometry = reader.list<std::string>();
  profile.notes = reader.list<std::string>();
  const auto features = reader.number<std::uint64_t>();
  profile.first_row = reader.list<std::vector<std::uint16_t>>();
  const auto groups = reader.number<std::uint64_t>();
  if (std::max({profile.model.size(), profile.geometry.size(), profile.notes.size()}) > most_text ||
      features > most_values || groups == 0 || groups > most_layers)
    return damaged("it has impossible sizes");
  profile.features = static_cast<std::size_t>(features);
  for (std::uint64_t i = 0; i < groups && !reader.failed(); ++i) {
    GroupTransform& group = profile.groups.emplace_back();
    group.first_layer = static_cast<std::size_t>(reader.number<std::uint64_t>());
    group.layers = static_cast<std::size_t>(reader.number<std::uint64_t>());
    for (auto* tensor : {&group.keys, &group.values}) each_field(*tensor, [&](auto& field) { reader.list(field); });
  }
  if (!reader.finished()) return damaged("its parts do not fill it");
  return profile;
}

}  // namespace krul
