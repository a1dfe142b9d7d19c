#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/store/manifest.hpp"

namespace krul {

/// Which chunks a save writes: all layers of some neighbouring blocks.
struct SegmentShape {
  std::size_t layers = 0;
  std::size_t first_block = 0;
  std::size_t blocks = 0;
};

/// "segment-<generation>-<8 hexadecimal digits of the content's checksum>": a name that no other content has had.
[[nodiscard]] inline std::string segment_name(std::uint64_t generation, std::span<const std::byte> bytes) {
  return "segment-" + std::to_string(generation) + "-" + hexadecimal(checksum(bytes)).substr(0, 8);
}

/// Collects the coded chunks of one save, layer-major: all blocks of layer 0, then those of layer 1, ...
/// A restore reads them in the same order, so neighbours become one request.
class SegmentWriter {
 public:
  explicit SegmentWriter(SegmentShape shape) : shape_(shape) { records_.reserve(shape.layers * shape.blocks); }

  [[nodiscard]] const SegmentShape& shape() const noexcept { return shape_; }

  /// Adds the next chunk; empty for one that is not stored.
  /// @throws PreconditionError if all have been added, or if the chunk has 4 GiB or more
  void add(std::span<const std::byte> coded, std::uint8_t codec, std::uint8_t plan) {
    expects(!complete(), "SegmentWriter: all chunks have been added");
    expects(coded.size() <= UINT32_MAX, "SegmentWriter: the chunk is too large");
    ChunkRecord record;
    if (!coded.empty()) {
      record.offset = bytes_.size();
      record.bytes = static_cast<std::uint32_t>(coded.size());
      record.codec = codec;
      record.plan = plan;
      record.hash = checksum(coded);
      bytes_.insert(bytes_.end(), coded.begin(), coded.end());
    }
    records_.push_back(record);
  }

  /// The next chunk is the one of this block that `layer` above has: both were coded into it.
  /// @throws PreconditionError if all have been added, or unless that layer is a shallower one
  void share(std::size_t layer) {
    expects(!complete() && layer < records_.size() / shape_.blocks, "SegmentWriter: a shallower layer is shared with");
    records_.push_back(records_[layer * shape_.blocks + records_.size() % shape_.blocks]);
  }

  [[nodiscard]] bool complete() const noexcept { return records_.size() == shape_.layers * shape_.blocks; }
  /// The object to put.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
  /// [layers, blocks], as far as added; `object` is still 0.
  [[nodiscard]] std::span<const ChunkRecord> records() const noexcept { return records_; }

  [[nodiscard]] std::string name(std::uint64_t generation) const { return segment_name(generation, bytes_); }

 private:
  SegmentShape shape_;
  std::vector<std::byte> bytes_;
  std::vector<ChunkRecord> records_;
};

/// Enters a complete segment into a manifest as object `name`. The segment's blocks replace those that were there (the
/// open tail) and everything behind them; objects that are no longer used are forgotten.
/// @param rows  tokens whose K and V are stored afterwards; they must fill exactly the segment's last block or a part
/// @throws PreconditionError if the segment is not complete or does not follow the blocks of the manifest, if `rows`
///         does not end in its last block, or if the manifest has other layers
/// @post   manifest.rows == rows; closed blocks before the segment are what they were
inline void enter_segment(Manifest& manifest, const SegmentWriter& segment, std::string name, std::size_t rows) {
  const SegmentShape& shape = segment.shape();
  expects(segment.complete(), "enter_segment: the segment is not complete");
  expects(shape.layers == manifest.layers, "enter_segment: the manifest has other layers");
  expects(shape.first_block <= manifest.rows / manifest.block, "enter_segment: blocks are missing before the segment");
  const std::size_t old_blocks = manifest.blocks(), blocks = shape.first_block + shape.blocks;
  expects(rows / manifest.block + (rows % manifest.block != 0) == blocks,
          "enter_segment: the rows do not end in its last block");

  const auto object = static_cast<std::uint32_t>(manifest.objects.size());
  std::vector<ChunkRecord> chunks;
  chunks.reserve(shape.layers * blocks);
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    for (std::size_t block = 0; block < shape.first_block; ++block)
      chunks.push_back(manifest.chunks[layer * old_blocks + block]);
    for (std::size_t block = 0; block < shape.blocks; ++block) {
      ChunkRecord& chunk = chunks.emplace_back(segment.records()[layer * shape.blocks + block]);
      if (chunk.is_stored()) chunk.object = object;
    }
  }
  manifest.chunks = std::move(chunks);
  manifest.objects.push_back(std::move(name));
  manifest.rows = rows;
  drop_unused_objects(manifest);
}

}  // namespace krul
