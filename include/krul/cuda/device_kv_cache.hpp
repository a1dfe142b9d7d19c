#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "krul/cuda/kernels/row_places.hpp"
#include "krul/cuda/row_book.hpp"
#include "krul/cuda/row_order.hpp"
#include "krul/cuda/staging_ring.hpp"

namespace krul::cuda {

/// A KvCache in a device's memory, [L][K and V][capacity, G, D]. Who touches its rows is put in order as RowOrder says.
/// A device's failure is thrown as ResultError: the cache commits nothing then.
template <DeviceApi Device>
class DeviceKvCache : public RowOrder<Device>, public RowBook {
 public:
  using RowOrder<Device>::begin, RowOrder<Device>::end;

  /// @param device  kept by reference
  /// @param ring    for the copies; caches of one thread may share it
  /// @throws ResultError if the device has no memory for it
  DeviceKvCache(Device& device, const Geometry& geometry, std::size_t capacity,
                std::shared_ptr<StagingRing<Device>> ring)
      : RowOrder<Device>(device),
        RowBook(geometry, capacity),
        ring_(std::move(ring)),
        places_(RowPlaces::contiguous(geometry)),
        memory_(or_throw(device.allocate(2 * layers() * capacity * row_bytes()))) {}

  /// Does not need the spans any more when it returns, nor wait() for rows to count as present.
  /// @throws PreconditionError if the range exceeds the capacity or the spans do not hold exactly its rows; ResultError
  Ticket write_kv(std::size_t layer, TokenRange tokens, KvRows from) {
    check(layer, tokens, from);
    begin(Rows::copied, ring_->stream());
    ring_->to_device(keys(layer) + tokens.begin * row_bytes(), from.keys);
    ring_->to_device(values(layer) + tokens.begin * row_bytes(), from.values);
    end(Rows::copied, ring_->stream());
    mark_present(layer, tokens);
    return {};
  }

  /// @throws PreconditionError as write_kv, and if a row is not present; ResultError
  Ticket read_kv(std::size_t layer, TokenRange tokens, MutableKvRows to) const {
    check_present(layer, tokens, to);
    begin(Rows::copied, ring_->stream());
    ring_->from_device(to.keys, keys(layer) + tokens.begin * row_bytes());
    ring_->from_device(to.values, values(layer) + tokens.begin * row_bytes());
    end(Rows::copied, ring_->stream());
    return {};
  }
  /// Waits for all reads so far.
  /// @throws ResultError, and then none of them comes any more
  void wait(Ticket) const { ring_->finish_reads(); }

  /// Rows of a layer, [capacity, G, D], for kernels between begin and end.
  [[nodiscard]] std::byte* keys(std::size_t layer) const {
    return memory_.data() + 2 * layer * capacity() * row_bytes();
  }
  [[nodiscard]] std::byte* values(std::size_t layer) const { return keys(layer) + capacity() * row_bytes(); }

  /// Places of its rows from a token on, from keys(layer) and values(layer).
  [[nodiscard]] RowPlaces places(std::size_t token) const { return places_.from(token); }
  /// Calls visit(TouchedBytes) for what kernels touch that write rows of a layer.
  template <class Visit>
  void touched(std::size_t layer, TokenRange tokens, Visit&& visit) const {
    for (std::byte* const rows : {keys(layer), values(layer)})
      visit(TouchedBytes{rows + tokens.begin * row_bytes(), tokens.size() * row_bytes(), true});
  }

 private:
  std::shared_ptr<StagingRing<Device>> ring_;
  RowPlaces places_;
  typename Device::Memory memory_;
};

}  // namespace krul::cuda
