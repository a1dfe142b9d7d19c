#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "drawn_profile.hpp"
#include "krul/compress/joint/joint_chunk.hpp"
#include "krul/cuda/device_room.hpp"
#include "krul/cuda/kernels/decode_symbols.hpp"
#include "krul/cuda/staging_ring.hpp"

namespace krul::bench {

/// A chunk's symbols, many times in a device's memory: each copy is decoded to a place of its own.
template <cuda::DeviceApi Device>
class SymbolCopies {
 public:
  SymbolCopies(Device& device, cuda::StagingRing<Device>& ring, const DrawnChunks& drawn, std::size_t copies) {
    const auto chunk = or_throw(JointChunk::read(*drawn.profile, 0, drawn.geometry, drawn.chunks[0],
                                                 {DrawnChunks::rows, 2 * DrawnChunks::rows}));
    const auto tables = drawn.profile->tables().alias_tables();
    const auto lay = [&](std::byte* base) {
      cuda::DeviceRoom room(base);
      kernel_.tables = room.add(tables);
      kernel_.table_count = static_cast<std::uint32_t>(tables.size());
      const auto* const bytes = room.add(chunk.symbols);
      std::vector<cuda::SymbolRun> runs;
      for (const auto& side : chunk.runs)
        for (const JointChunk::Run& run : side)
          runs.push_back({static_cast<std::uint32_t>(run.tables.size()), static_cast<std::uint32_t>(run.count),
                          room.add(run.tables), nullptr});
      const std::size_t of_chunk = runs.size();
      symbols_ = 0;
      for (const cuda::SymbolRun& run : runs) symbols_ += std::size_t{run.columns} * run.tokens;
      // Where symbols go is behind all arrays, whose size does not depend on it.
      std::vector<cuda::SymbolRun> all;
      auto* to = reinterpret_cast<std::int16_t*>(base + symbols_at_);
      for (std::size_t copy = 0; copy < copies; ++copy)
        for (cuda::SymbolRun run : runs) {
          run.symbols = base == nullptr ? nullptr : to;
          to = base == nullptr ? nullptr : to + std::size_t{run.columns} * run.tokens;
          all.push_back(run);
        }
      const auto* const runs_at = room.add(all);
      std::vector<cuda::SymbolStreams> streams;
      for (std::size_t copy = 0; copy < copies; ++copy)
        streams.push_back({bytes, static_cast<std::uint32_t>(chunk.symbols.size()),
                           static_cast<std::uint32_t>(chunk.streams), runs_at + copy * of_chunk,
                           static_cast<std::uint32_t>(of_chunk)});
      kernel_.chunks = room.add(streams);
      kernel_.chunk_count = static_cast<std::uint32_t>(copies);
      kernel_.outcomes = room.reserve<krul::detail::DecodeOutcome>(copies);
      symbols_at_ = room.size();
      return room;
    };
    lay(nullptr);
    memory_.emplace(or_throw(device.allocate(bytes_ = symbols_at_ + copies * symbols_ * sizeof(std::int16_t))));
    ring.to_device(memory_->data(), lay(memory_->data()).filled());
  }

  [[nodiscard]] const cuda::DecodeSymbols& kernel() const noexcept { return kernel_; }
  /// [copies, symbols()] where they go.
  [[nodiscard]] const std::int16_t* decoded() const {
    return reinterpret_cast<const std::int16_t*>(memory_->data() + symbols_at_);
  }
  [[nodiscard]] std::size_t symbols() const noexcept { return symbols_; }  ///< of one copy
  [[nodiscard]] cuda::TouchedBytes memory() const { return {memory_->data(), bytes_, true}; }

 private:
  cuda::DecodeSymbols kernel_{};
  std::size_t symbols_ = 0, symbols_at_ = 0, bytes_ = 0;
  std::optional<typename Device::Memory> memory_;
};

}  // namespace krul::bench
