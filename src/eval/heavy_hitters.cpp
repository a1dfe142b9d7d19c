#include "krul/eval/heavy_hitters.hpp"

#include <cstring>

#include "krul/compress/joint/block_rotation.hpp"
#include "krul/core/half.hpp"

namespace krul::eval {

void keep_heavy_hitters(const Geometry& geometry, const KvRows& rows, std::span<const std::vector<std::size_t>> kept,
                        const MutableKvRows& to) {
  const std::size_t row_bytes = geometry.kv_row_bytes(), history = rows.keys.size() / row_bytes;
  const std::size_t head_bytes = geometry.head_dim * size_of(geometry.cache_type);
  expects(kept.size() == geometry.kv_heads && !kept.empty(), "keep_heavy_hitters: the keys of each KV head");
  const std::size_t keep = kept[0].size();
  expects(to.keys.size() == keep * row_bytes && to.values.size() == to.keys.size() &&
              rows.values.size() == rows.keys.size() && keep <= history,
          "keep_heavy_hitters: rows of another length");

  const krul::detail::BlockRotation moved(geometry.rotary, static_cast<Position>(history - keep), 1);
  std::vector<float> head(geometry.head_dim);
  for (std::size_t g = 0; g < kept.size(); ++g) {
    expects(kept[g].size() == keep, "keep_heavy_hitters: as many keys of each head");
    for (std::size_t i = 0; i < keep; ++i) {
      expects(kept[g][i] < history, "keep_heavy_hitters: there is no such key");
      const std::size_t from = kept[g][i] * row_bytes + g * head_bytes, at = i * row_bytes + g * head_bytes;
      to_float(geometry.cache_type, rows.keys.subspan(from, head_bytes), head);
      moved.turn_back(0, head, geometry.head_dim);
      from_float(geometry.cache_type, head, to.keys.subspan(at, head_bytes));
      std::memcpy(to.values.data() + at, rows.values.data() + from, head_bytes);
    }
  }
}

}  // namespace krul::eval
