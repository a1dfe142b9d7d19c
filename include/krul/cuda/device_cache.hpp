#pragma once

#include <concepts>
#include <cstddef>

#include "krul/backend/kv_cache.hpp"
#include "krul/cuda/kernels/row_places.hpp"
#include "krul/cuda/row_order.hpp"

namespace krul::cuda {

/// A KvCache on a device whose rows kernels write in place: DeviceKvCache, PagedKvCache.
template <class C, class Device>
concept DeviceCache = KvCache<C> && requires(C& cache, const C& read, typename Device::Stream& stream,
                                             std::size_t layer, TokenRange tokens, void (*visit)(const TouchedBytes&)) {
  { read.layers() } -> std::same_as<std::size_t>;
  { read.row_bytes() } -> std::same_as<std::size_t>;
  { read.begin(Rows::decoded, stream) } -> std::same_as<void>;  ///< as RowOrder says, and so does end
  { read.end(Rows::decoded, stream) } -> std::same_as<void>;
  { read.keys(layer) } -> std::same_as<std::byte*>;  ///< where those of the layer begin
  { read.values(layer) } -> std::same_as<std::byte*>;
  { read.places(tokens.begin) } -> std::same_as<RowPlaces>;  ///< of rows from there on, from keys and values
  read.touched(layer, tokens, visit);                        ///< calls visit for what kernels touch that write them
  { cache.mark_present(layer, tokens) } -> std::same_as<void>;
};

}  // namespace krul::cuda
