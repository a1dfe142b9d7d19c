#include "krul/eval/kvtc.hpp"

#include <Eigen/Dense>

#include "krul/compress/entropy/byte_coder.hpp"
#include "krul/compress/joint/block_rotation.hpp"
#include "krul/eval/bit_packing.hpp"

namespace krul::eval {
namespace {

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowsView = Eigen::Map<const Rows>;
using Tensor = std::vector<std::vector<float>>;  // [L][N, G, D]

/// Tokens that are kept as they are, in front and behind, and those between.
struct Split {
  std::size_t begin, end;
  Split(std::size_t tokens, const KvtcSettings& settings)
      : begin(std::min(tokens, settings.sinks)), end(std::max(begin, tokens - std::min(tokens, settings.window))) {}
  [[nodiscard]] std::size_t size() const { return end - begin; }
};

RowsView directions_of(const KvtcTensor& tensor, const std::vector<KvtcGroup>& groups) {
  std::size_t used = 0;
  for (const KvtcGroup& group : groups) used += group.size;
  return {tensor.directions.data(), static_cast<Eigen::Index>(used), static_cast<Eigen::Index>(tensor.features())};
}

/// [T, L, G, D] of the tokens between, less the mean; keys (where there is a rotation) without the rotary embedding.
Rows gather(const Geometry& geometry, const Tensor& rows, const Split& split, const KvtcTensor& basis,
            const detail::BlockRotation* rotation) {
  const std::size_t width = geometry.kv_values();
  Rows gathered(static_cast<Eigen::Index>(split.size()), static_cast<Eigen::Index>(basis.features()));
  for (std::size_t token = 0; token < split.size(); ++token)
    for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
      const std::span<float> to(gathered.data() + (token * geometry.layers + layer) * width, width);
      std::copy_n(&rows[layer][(split.begin + token) * width], width, to.begin());
      if (rotation != nullptr) rotation->turn_back(token, to, geometry.head_dim);
    }
  gathered.rowwise() -= Eigen::Map<const Eigen::RowVectorXf>(basis.mean.data(), gathered.cols());
  return gathered;
}

void scatter(const Geometry& geometry, Rows& gathered, const Split& split, const KvtcTensor& basis,
             const detail::BlockRotation* rotation, Tensor& rows) {
  const std::size_t width = geometry.kv_values();
  gathered.rowwise() += Eigen::Map<const Eigen::RowVectorXf>(basis.mean.data(), gathered.cols());
  for (std::size_t token = 0; token < split.size(); ++token)
    for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
      const std::span<float> from(gathered.data() + (token * geometry.layers + layer) * width, width);
      if (rotation != nullptr) rotation->turn(token, from, geometry.head_dim);
      std::copy(from.begin(), from.end(), &rows[layer][(split.begin + token) * width]);
    }
}

void write_stream(ByteWriter& out, std::span<const std::byte> bytes) {
  const auto coded = encode_bytes(bytes);
  out.number(static_cast<std::uint32_t>(coded.size()));
  out.raw(coded);
}

std::vector<std::byte> read_stream(ByteReader& in, std::size_t size) {
  std::vector<std::byte> bytes(size);
  expects(decode_bytes(in.take(in.number<std::uint32_t>()), bytes).has_value(), "KvtcCoder: bytes of something else");
  return bytes;
}

/// Whole numbers of so many bits, entropy coded one by one or packed, whichever is less; eight bits as two halves, as
/// the byte coder has tables for few values.
void write_codes(ByteWriter& out, std::span<const std::uint8_t> codes, unsigned bits) {
  if (bits > 4) {
    for (const unsigned shift : {4U, 0U}) {
      std::vector<std::uint8_t> half;
      for (const std::uint8_t code : codes) half.push_back(static_cast<std::uint8_t>(code >> shift & 0xfU));
      write_codes(out, half, 4);
    }
    return;
  }
  const auto coded = encode_bytes(std::as_bytes(codes));
  const auto packed = pack_bits(codes, bits);
  const bool worth = coded.size() < packed.size();
  out.number(static_cast<std::uint8_t>(worth));
  if (worth) out.number(static_cast<std::uint32_t>(coded.size()));
  out.raw(worth ? coded : packed);
}

void read_codes(ByteReader& in, std::span<std::uint8_t> codes, unsigned bits) {
  if (bits > 4) {
    std::vector<std::uint8_t> low(codes.size());
    read_codes(in, codes, 4);
    read_codes(in, low, 4);
    for (std::size_t i = 0; i < low.size(); ++i) codes[i] = static_cast<std::uint8_t>(codes[i] << 4 | low[i]);
    return;
  }
  if (in.number<std::uint8_t>() == 0) return unpack_bits(in.take((codes.size() * bits + 7) / 8), bits, codes);
  expects(decode_bytes(in.take(in.number<std::uint32_t>()), std::as_writable_bytes(codes)).has_value(),
          "KvtcCoder: bytes of something else");
}

/// One column of all tokens' numbers: upper bytes, then lower ones.
void write_column(ByteWriter& out, std::span<const AffineScale> scales, std::uint16_t AffineScale::*number) {
  for (const unsigned shift : {8U, 0U}) {
    std::vector<std::byte> bytes;
    for (const AffineScale& scale : scales) bytes.push_back(static_cast<std::byte>((scale.*number >> shift) & 0xffU));
    write_stream(out, bytes);
  }
}

void read_column(ByteReader& in, std::span<AffineScale> scales, std::uint16_t AffineScale::*number) {
  for (const unsigned shift : {8U, 0U}) {
    const auto bytes = read_stream(in, scales.size());
    for (std::size_t i = 0; i < bytes.size(); ++i)
      scales[i].*number = static_cast<std::uint16_t>(scales[i].*number | std::to_integer<unsigned>(bytes[i]) << shift);
  }
}

/// @param components  [T, components of all groups]
void encode_components(const Rows& components, const std::vector<KvtcGroup>& groups, ByteWriter& out) {
  const auto tokens = static_cast<std::size_t>(components.rows());
  std::size_t first = 0;
  for (const KvtcGroup& group : groups) {
    std::vector<AffineScale> scales;
    std::vector<std::uint8_t> codes(tokens * group.size);
    for (std::size_t token = 0; token < tokens; ++token) {
      const std::span<const float> values(
          components.data() + token * static_cast<std::size_t>(components.cols()) + first, group.size);
      scales.push_back(AffineScale::of(values, group.bits));
      scales.back().quantise(values, group.bits, std::span(codes).subspan(token * group.size, group.size));
    }
    write_column(out, scales, &AffineScale::scale);
    write_column(out, scales, &AffineScale::zero);
    write_codes(out, codes, group.bits);
    first += group.size;
  }
}

void decode_components(ByteReader& in, const std::vector<KvtcGroup>& groups, Rows& components) {
  const auto tokens = static_cast<std::size_t>(components.rows());
  std::size_t first = 0;
  for (const KvtcGroup& group : groups) {
    std::vector<AffineScale> scales(tokens);
    std::vector<std::uint8_t> codes(tokens * group.size);
    read_column(in, scales, &AffineScale::scale);
    read_column(in, scales, &AffineScale::zero);
    read_codes(in, codes, group.bits);
    for (std::size_t token = 0; token < tokens; ++token)
      for (std::size_t i = 0; i < group.size; ++i)
        components(static_cast<Eigen::Index>(token), static_cast<Eigen::Index>(first + i)) =
            scales[token].value(codes[token * group.size + i]);
    first += group.size;
  }
}

/// The rows outside, of all layers.
template <class Values, class Use>
void for_exact(const Geometry& geometry, const Split& split, Values& tensor, Use&& use) {
  for (auto& layer : tensor) {
    const std::span values(layer);
    use(values.first(split.begin * geometry.kv_values()));
    use(values.subspan(split.end * geometry.kv_values()));
  }
}

}  // namespace

KvtcCoder::KvtcCoder(std::shared_ptr<const KvtcBasis> basis, const KvtcSettings& settings)
    : basis_(std::move(basis)), settings_(settings) {
  expects(basis_ != nullptr && settings.ratio > 0, "KvtcCoder: a basis, and a ratio of at least one");
  const std::size_t budget = basis_->keys.features() * 16 / settings.ratio;
  key_groups_ = kvtc_plan(basis_->keys, budget);
  value_groups_ = kvtc_plan(basis_->values, budget);
}

std::string KvtcCoder::name() const {
  const std::string plain = "kvtc-" + std::to_string(settings_.ratio);
  return settings_.window == KvtcSettings{}.window ? plain : plain + "-w" + std::to_string(settings_.window);
}

std::vector<std::byte> KvtcCoder::encode(const Geometry& geometry, const HistoryRows& rows) const {
  expects_history(geometry, rows);
  expects(basis_->keys.features() == geometry.layers * geometry.kv_values(), "KvtcCoder: another model's basis");
  const Split split(rows.tokens, settings_);
  const detail::BlockRotation rotation(geometry.rotary, static_cast<Position>(split.begin), split.size());
  ByteWriter out;
  out.number(static_cast<std::uint32_t>(rows.tokens));
  for (const bool keys : {true, false}) {
    const Tensor& tensor = keys ? rows.keys : rows.values;
    const KvtcTensor& basis = keys ? basis_->keys : basis_->values;
    const auto& groups = keys ? key_groups_ : value_groups_;
    for_exact(geometry, split, tensor, [&](std::span<const float> values) { write_f16(out, values); });
    if (split.size() == 0) continue;
    const Rows plain = gather(geometry, tensor, split, basis, keys ? &rotation : nullptr);
    encode_components(plain * directions_of(basis, groups).transpose(), groups, out);
  }
  return std::move(out.bytes());
}

HistoryRows KvtcCoder::decode(const Geometry& geometry, std::span<const std::byte> bytes) const {
  expects(basis_->keys.features() == geometry.layers * geometry.kv_values(), "KvtcCoder: another model's basis");
  ByteReader in(bytes);
  HistoryRows rows(geometry, in.number<std::uint32_t>());
  const Split split(rows.tokens, settings_);
  const detail::BlockRotation rotation(geometry.rotary, static_cast<Position>(split.begin), split.size());
  for (const bool keys : {true, false}) {
    Tensor& tensor = keys ? rows.keys : rows.values;
    const KvtcTensor& basis = keys ? basis_->keys : basis_->values;
    const auto& groups = keys ? key_groups_ : value_groups_;
    for_exact(geometry, split, tensor, [&](std::span<float> values) { read_f16(in, values); });
    if (split.size() == 0) continue;
    const RowsView directions = directions_of(basis, groups);
    Rows components(static_cast<Eigen::Index>(split.size()), directions.rows());
    decode_components(in, groups, components);
    Rows plain = components * directions;
    scatter(geometry, plain, split, basis, keys ? &rotation : nullptr, tensor);
  }
  expects(in.finished(), "KvtcCoder: bytes of another length");
  return rows;
}

}  // namespace krul::eval
