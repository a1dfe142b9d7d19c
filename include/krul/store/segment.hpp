#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/store/manifest.hpp"

namespace krul {

/// Which chunks a save writes: all layers of some neighbouring blocks, and of earlier ones that were damaged.
struct SegmentShape {
  std::size_t layers = 0;
  std::size_t first_block = 0;
  std::size_t blocks = 0;                 ///< from first_block on
  std::vector<std::size_t> damaged = {};  ///< ascending, below first_block

  [[nodiscard]] std::size_t count() const noexcept { return damaged.size() + blocks; }
  /// The i-th block of the segment, i < count().
  [[nodiscard]] std::size_t block(std::size_t i) const {
    return i < damaged.size() ? damaged[i] : first_block + i - damaged.size();
  }
};

/// "segment-<generation>-<8 hexadecimal digits of the content's checksum>": a name that no other content has had.
[[nodiscard]] inline std::string segment_name(std::uint64_t generation, std::span<const std::byte> bytes) {
  return "segment-" + std::to_string(generation) + "-" + hexadecimal(checksum(bytes)).substr(0, 8);
}

/// True for what segment_name gives.
[[nodiscard]] constexpr bool is_segment_name(std::string_view name) noexcept {
  constexpr std::string_view prefix = "segment-", decimal = "0123456789", digits = "0123456789abcdef";
  if (!name.starts_with(prefix)) return false;
  name.remove_prefix(prefix.size());
  const std::size_t dash = name.find('-');
  return dash != 0 && dash != std::string_view::npos && name.size() == dash + 9 &&
         name.substr(0, dash).find_first_not_of(decimal) == std::string_view::npos &&
         name.substr(dash + 1).find_first_not_of(digits) == std::string_view::npos;
}

/// In which order the chunks of a segment lie: neighbours that are read one after the other become one request.
enum class SegmentOrder : std::uint8_t {
  by_layer,  ///< all blocks of layer 0, then those of layer 1, ...: for restores that go layer by layer
  by_block,  ///< all layers of the first block, then those of the second, ...: for restores that go token by token
};

/// Collects the coded chunks of one save, in the order of SegmentOrder.
class SegmentWriter {
 public:
  explicit SegmentWriter(SegmentShape shape, SegmentOrder order = SegmentOrder::by_layer)
      : shape_(std::move(shape)), order_(order), records_(shape_.layers * shape_.count()) {}

  [[nodiscard]] const SegmentShape& shape() const noexcept { return shape_; }

  /// Adds the next chunk; empty for one that is not stored.
  /// @throws PreconditionError if all have been added, or if the chunk has 4 GiB or more
  void add(std::span<const std::byte> coded, std::uint8_t codec, std::uint8_t plan) {
    expects(!complete(), "SegmentWriter: all chunks have been added");
    expects(coded.size() <= UINT32_MAX, "SegmentWriter: the chunk is too large");
    ChunkRecord& record = next_record();
    if (coded.empty()) return;
    record.offset = bytes_.size();
    record.bytes = static_cast<std::uint32_t>(coded.size());
    record.codec = codec;
    record.plan = plan;
    record.hash = checksum(coded);
    bytes_.insert(bytes_.end(), coded.begin(), coded.end());
  }

  /// The next chunk is the one of its block that a shallower layer has: both were coded into it.
  /// @throws PreconditionError if all have been added, or unless that layer is a shallower one
  void share(std::size_t layer) {
    expects(!complete() && layer < layer_of(added_), "SegmentWriter: a shallower layer is shared with");
    const std::size_t block = block_of(added_);
    next_record() = records_[layer * shape_.count() + block];
  }

  [[nodiscard]] bool complete() const noexcept { return added_ == records_.size(); }
  /// The object to put.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
  /// [layers, shape().count()], those not added yet as not stored; `object` is still 0.
  [[nodiscard]] std::span<const ChunkRecord> records() const noexcept { return records_; }

  [[nodiscard]] std::string name(std::uint64_t generation) const { return segment_name(generation, bytes_); }

 private:
  [[nodiscard]] std::size_t layer_of(std::size_t i) const {
    return order_ == SegmentOrder::by_layer ? i / shape_.count() : i % shape_.layers;
  }
  [[nodiscard]] std::size_t block_of(std::size_t i) const {
    return order_ == SegmentOrder::by_layer ? i % shape_.count() : i / shape_.layers;
  }
  ChunkRecord& next_record() {
    const std::size_t i = added_++;
    return records_[layer_of(i) * shape_.count() + block_of(i)];
  }

  SegmentShape shape_;
  SegmentOrder order_;
  std::size_t added_ = 0;
  std::vector<std::byte> bytes_;
  std::vector<ChunkRecord> records_;
};

/// Enters a complete segment into a manifest as object `name`. The segment's blocks replace those that were there (the
/// open tail, or was damaged) and everything behind first_block; objects that are no longer used are forgotten.
/// @param rows  tokens whose K and V are stored afterwards; they must fill exactly the segment's last block or a part
/// @throws PreconditionError if the segment is not complete or does not follow the blocks of the manifest, if `rows`
///         does not end in its last block, if a damaged block does not lie before first_block, or if the manifest has
///         other layers
/// @post   manifest.rows == rows; closed blocks before the segment are what they were
inline void enter_segment(Manifest& manifest, const SegmentWriter& segment, std::string name, std::size_t rows) {
  const SegmentShape& shape = segment.shape();
  expects(segment.complete(), "enter_segment: the segment is not complete");
  expects(shape.layers == manifest.layers, "enter_segment: the manifest has other layers");
  expects(shape.first_block <= manifest.rows / manifest.block, "enter_segment: blocks are missing before the segment");
  expects(shape.damaged.empty() || shape.damaged.back() < shape.first_block,
          "enter_segment: damaged blocks lie before the first one");
  const std::size_t old_blocks = manifest.blocks(), blocks = shape.first_block + shape.blocks;
  expects(rows / manifest.block + (rows % manifest.block != 0) == blocks,
          "enter_segment: the rows do not end in its last block");

  const auto object = static_cast<std::uint32_t>(manifest.objects.size());
  std::vector<ChunkRecord> chunks(shape.layers * blocks);
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    for (std::size_t block = 0; block < shape.first_block; ++block)
      chunks[layer * blocks + block] = manifest.chunks[layer * old_blocks + block];
    for (std::size_t i = 0; i < shape.count(); ++i) {
      ChunkRecord& chunk = chunks[layer * blocks + shape.block(i)];
      chunk = segment.records()[layer * shape.count() + i];
      if (chunk.is_stored()) chunk.object = object;
    }
  }
  manifest.chunks = std::move(chunks);
  manifest.objects.push_back(std::move(name));
  manifest.rows = rows;
  drop_unused_objects(manifest);
}

}  // namespace krul
