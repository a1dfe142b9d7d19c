#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>

#include "krul/core/error.hpp"
#include "krul/cuda/kernel_block.hpp"

namespace krul::cuda {

/// How many threads run a kernel: blocks of whole warps.
struct Launch {
  unsigned blocks = 1, threads = warp_lanes;
  std::size_t shared_bytes = 0;
};

/// Bytes in the memory of a device or of the host that no other operation may change meanwhile.
struct TouchedBytes {
  const void* begin = nullptr;
  std::size_t bytes = 0;
  bool written = false;
};

/// A copy between any two places, of the device or of pinned memory of the host.
struct CopiedBytes {
  void* to = nullptr;
  const void* from = nullptr;
  std::size_t bytes = 0;
};

/// A kernel that says what memory it touches: `touched(visit)` calls visit(TouchedBytes) for each.
template <class K>
concept DeviceKernel = std::is_trivially_copyable_v<K> &&
    requires(const K& kernel, void (*visit)(const TouchedBytes&)) {
  kernel.touched(visit);
};

/// The calls of a device that krul makes. What is asked for on a stream happens in that order, after what was asked for
/// before; between streams, and between a stream and the host, only events say what comes first. Nothing here waits,
/// except what is named so. A device that tests use runs all in any order that this allows, and knows what touches
/// what.
template <class D>
concept DeviceApi = requires(D& device, const D& read, typename D::Stream& stream, const typename D::Event& event,
                             std::size_t bytes, const CopiedBytes& copy, const TouchedBytes& touched) {
  typename D::Memory;  ///< owns what it points to, `data()`, on the device; frees it once nothing uses it any more
  typename D::Pinned;  ///< the same, of the host, which copies reach without a detour
  { read.multiprocessors() } -> std::same_as<unsigned>;  ///< that run blocks at once
  { device.allocate(bytes) } -> std::same_as<Result<typename D::Memory>>;
  { device.pin(bytes) } -> std::same_as<Result<typename D::Pinned>>;
  { device.make_stream() } -> std::same_as<Result<typename D::Stream>>;
  { device.copy(stream, copy) } -> std::same_as<Status>;
  /// After all that was asked for on the stream so far.
  { device.record(stream) } -> std::same_as<Result<typename D::Event>>;
  /// What is asked for on the stream from now on comes after the event.
  { device.wait(stream, event) } -> std::same_as<Status>;
  /// Waits on the host.
  { device.synchronise(event) } -> std::same_as<Status>;
  /// The host is about to read or write memory that copies reach, too.
  { device.host_touches(touched) } -> std::same_as<void>;
};

}  // namespace krul::cuda
