#include "chunk_header.hpp"

#include <algorithm>

#include "krul/core/half.hpp"

namespace krul::detail {

std::vector<std::byte> first_row_of(const Profile& profile, const Geometry& geometry, std::size_t layer,
                                    std::size_t tensor) {
  const std::size_t width = geometry.kv_values();
  std::vector<float> values(width);
  const auto halves = std::span(profile.data().first_row).subspan((layer * 2 + tensor) * width, width);
  std::transform(halves.begin(), halves.end(), values.begin(), [](std::uint16_t half) { return float_from_f16(half); });
  std::vector<std::byte> bytes(geometry.kv_row_bytes());
  from_float(geometry.cache_type, values, bytes);
  return bytes;
}

Result<ChunkHeader> read_chunk_header(const Profile& profile, std::size_t group, const Geometry& geometry,
                                      std::span<const std::byte> chunk, const ChunkRows& rows) {
  const auto too_short = [] {
    return fail(ErrorCode::truncated, "a chunk of a group of layers ends too early: recompute these tokens");
  };
  const GroupTransform& layers = profile.data().groups.at(group);
  if (chunk.size() < chunk_header_bytes) return too_short();
  std::uint64_t id = 0;
  for (std::size_t i = 8; i-- > 0;) id = id << 8 | std::to_integer<std::uint64_t>(chunk[i]);
  if (id != profile.id())
    return fail(ErrorCode::unsupported, "rows were coded with another profile than " + profile.hash() +
                                            ": give krul theirs, or recompute them");
  ChunkHeader header{.step = {static_cast<std::int8_t>(std::to_integer<int>(chunk[8]))}};
  const auto flags = std::to_integer<std::uint8_t>(chunk[9]);
  const auto form = static_cast<std::uint8_t>(flags & ~with_classes);
  chunk = chunk.subspan(chunk_header_bytes);
  if (rows.apart == 0 ? form != absent : form != stored && form != of_profile)
    return fail(ErrorCode::corrupt,
                "a chunk of a group of layers has a first row that no encoder writes: recompute these tokens");
  if (form == stored) {
    const std::size_t bytes = layers.layers * 2 * geometry.kv_row_bytes();
    if (chunk.size() < bytes) return too_short();
    header.first_row.assign(chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(bytes));
    chunk = chunk.subspan(bytes);
  } else if (form == of_profile) {
    for (std::size_t layer = 0; layer < layers.layers; ++layer)
      for (std::size_t tensor = 0; tensor < 2; ++tensor) {
        const auto row = first_row_of(profile, geometry, layers.first_layer + layer, tensor);
        header.first_row.insert(header.first_row.end(), row.begin(), row.end());
      }
  }
  if ((flags & with_classes) != 0) {
    auto read = read_classes(rows.others, chunk);
    if (!read) return propagate(read);
    header.classes = std::move(*read);
  }
  if (chunk.size() < 2) return too_short();
  const std::size_t length = std::to_integer<std::size_t>(chunk[0]) | std::to_integer<std::size_t>(chunk[1]) << 8;
  chunk = chunk.subspan(2);
  if (length > chunk.size()) return too_short();
  header.tables = chunk.first(length);
  header.symbols = chunk.subspan(length);
  return header;
}

}  // namespace krul::detail
