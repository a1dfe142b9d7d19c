#include "krul/compress/float_codec.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "krul/core/half.hpp"

namespace krul {
namespace {

void convert(ElementType from_type, std::span<const std::byte> from, ElementType to_type, std::span<std::byte> to) {
  if (from_type == to_type) {
    if (!from.empty()) std::memcpy(to.data(), from.data(), from.size());
    return;
  }
  std::array<float, 512> values;  // small enough to stay in the first-level cache
  const std::size_t count = from.size() / size_of(from_type);
  for (std::size_t i = 0; i < count; i += values.size()) {
    const std::span<float> part(values.data(), std::min(values.size(), count - i));
    to_float(from_type, from.subspan(i * size_of(from_type), part.size() * size_of(from_type)), part);
    from_float(to_type, part, to.subspan(i * size_of(to_type), part.size() * size_of(to_type)));
  }
}

}  // namespace

template <ElementType Stored>
requires(Stored != ElementType::f32) void FloatCodec<Stored>::encode(const Geometry& geometry,
                                                                     std::span<const std::byte> rows,
                                                                     std::span<std::byte> to) const {
  const std::size_t row = geometry.kv_row_bytes();
  expects(row > 0 && rows.size() % row == 0 && to.size() == bytes(geometry, rows.size() / row),
          "FloatCodec: encode needs whole rows and room for exactly their coded bytes");
  convert(geometry.cache_type, rows, Stored, to);
}

template <ElementType Stored>
requires(Stored != ElementType::f32) Status FloatCodec<Stored>::decode(const Geometry& geometry,
                                                                       std::span<const std::byte> from,
                                                                       std::span<std::byte> rows)
const {
  const std::size_t row = geometry.kv_row_bytes();
  expects(row > 0 && rows.size() % row == 0 && from.size() == bytes(geometry, rows.size() / row),
          "FloatCodec: decode needs whole rows and exactly their coded bytes");
  convert(Stored, from, geometry.cache_type, rows);
  return {};
}

template class FloatCodec<ElementType::f16>;
template class FloatCodec<ElementType::bf16>;

}  // namespace krul
