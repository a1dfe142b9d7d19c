#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "krul/core/element_type.hpp"
#include "krul/cuda/tile_product.hpp"

/// Before functions that a device runs. Without nvcc they are functions like any other, and tests run them on the host.
#if defined(__CUDACC__)
#define KRUL_DEVICE __device__
#else
#define KRUL_DEVICE
#endif

namespace krul::cuda {

inline constexpr unsigned warp_lanes = 32;

/// Where one thread of a kernel runs, and how it meets the others. A kernel is a value with the call operator
///
///   template <KernelBlock Block> KRUL_DEVICE void operator()(Block& block) const;
///
/// which every thread of every block of a grid runs once. Its members are what a launch passes: pointers to memory that
/// the device sees, and numbers. So the same source runs on a device, and as fibres on the host.
///
/// @source ours; the model is CUDA's
template <class B>
concept KernelBlock = requires(B& block, bool flag, std::uint32_t value, unsigned lane, ElementType half,
                               const TileLeft& left, const TileRight& right, TileSums& sums) {
  { block.index() } -> std::same_as<unsigned>;     ///< of the block in its grid
  { block.blocks() } -> std::same_as<unsigned>;    ///< of the grid
  { block.thread() } -> std::same_as<unsigned>;    ///< of the thread in its block
  { block.threads() } -> std::same_as<unsigned>;   ///< of the block: whole warps
  { block.shared() } -> std::same_as<std::byte*>;  ///< [as many bytes as the launch asked for], 16-byte aligned
  /// All threads of the block come here before one goes on.
  { block.sync() } -> std::same_as<void>;
  /// What a warp's lanes say, lane i in bit i. All of them must ask.
  { block.ballot(flag) } -> std::same_as<std::uint32_t>;
  /// What lane `lane` gives. All lanes of the warp must ask.
  { block.shuffle(value, lane) } -> std::same_as<std::uint32_t>;
  /// sums += left * right, of f16 or bf16; in f32, in an order and with roundings that are the device's. All lanes of
  /// the warp must ask. Row i of the sums sees no other row of left, column j no other column of right.
  { block.add_tile_product(half, left, right, sums) } -> std::same_as<void>;
};

/// The thread's lane in its warp, and its warp in the block.
template <KernelBlock Block>
[[nodiscard]] KRUL_DEVICE unsigned lane_of(Block& block) {
  return block.thread() % warp_lanes;
}
template <KernelBlock Block>
[[nodiscard]] KRUL_DEVICE unsigned warp_of(Block& block) {
  return block.thread() / warp_lanes;
}

}  // namespace krul::cuda
