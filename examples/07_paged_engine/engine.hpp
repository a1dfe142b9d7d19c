#pragma once

// An engine that owns pages on a device, as vLLM and FlashInfer lay them out, and lends them to krul. The model is the
// toy of example 2: it computes on the host, and reads and writes rows through the cache.

#include <cstdint>
#include <krul/backend/host_kv_cache.hpp>
#include <krul/backend/model_backend.hpp>
#include <krul/cuda/paged_kv_cache.hpp>
#include <memory>
#include <vector>

#include "../02_your_own_backend/toy_backend.hpp"

namespace paged {

template <krul::cuda::DeviceApi Device>
class Engine {
 public:
  using Cache = krul::cuda::PagedKvCache<Device>;
  using Batch = toy::Backend::Batch;

  explicit Engine(Device& device) : memory_(device.allocate(2 * geometry().layers * pages * page_bytes()).value()) {
    // [L, pages, 2, G, page_tokens, D]: FlashInfer's combined cache, heads first.
    krul::cuda::PagedLayout layout{.page_tokens = page_tokens, .pages = pages, .order = krul::cuda::PageOrder::hnd};
    layout.page_stride = 2 * page_bytes();
    for (std::size_t layer = 0; layer < geometry().layers; ++layer) {
      layout.keys.push_back(memory_.data() + layer * pages * layout.page_stride);
      layout.values.push_back(layout.keys.back() + page_bytes());
    }
    using Ring = krul::cuda::StagingRing<Device>;
    auto ring = std::make_shared<Ring>(device, device.make_stream().value(), typename Ring::Size{});
    pool_ = std::make_shared<krul::cuda::PagedPool<Device>>(device, geometry(), layout, std::move(ring));
  }

  const krul::Geometry& geometry() const { return model_.geometry(); }
  const krul::Identity& identity() const { return model_.identity(); }
  Batch make_batch() const { return model_.make_batch(); }
  /// The next free pages; a real engine takes back those of caches that are gone.
  Cache make_cache(std::size_t capacity) {
    std::vector<std::int32_t> numbers((capacity + page_tokens - 1) / page_tokens);
    for (std::int32_t& number : numbers) number = next_page_++;
    Cache cache(pool_, numbers.size());
    cache.append_pages(numbers);
    return cache;
  }

  void embed(std::span<const krul::Token> tokens, Batch& batch) const { model_.embed(tokens, batch); }
  void finish(std::size_t layer, Batch& batch) const { model_.finish(layer, batch); }
  void logits(Batch& batch, krul::RowRange rows, std::span<float> out) const { model_.logits(batch, rows, out); }
  // A model on the device would launch kernels between begin and end of the cache, which know its page table.
  void project(std::size_t layer, Batch& batch, Cache& cache, krul::KvWrite write) const {
    auto rows = on_host(layer, cache);
    model_.project(layer, batch, rows, write);
    for (const auto range : rows.present(layer).ranges()) cache.write_kv(layer, range, rows_of(rows, layer, range));
  }
  template <krul::AttentionObserver Observer>
  void attend(std::size_t layer, Batch& batch, Cache& cache, Observer&& observer) const {
    auto rows = on_host(layer, cache);
    model_.attend(layer, batch, rows, observer);
  }

 private:
  static constexpr std::size_t page_tokens = 16, pages = 256;
  std::size_t page_bytes() const { return page_tokens * geometry().kv_row_bytes(); }
  krul::MutableKvRows rows_of(krul::HostKvCache& rows, std::size_t layer, krul::TokenRange range) const {
    const std::size_t row = geometry().kv_row_bytes();
    const auto all = rows.view(layer);
    return {all.keys.subspan(range.begin * row, range.size() * row),
            all.values.subspan(range.begin * row, range.size() * row)};
  }
  krul::HostKvCache on_host(std::size_t layer, const Cache& cache) const {
    krul::HostKvCache rows(geometry(), cache.capacity());
    for (const auto range : cache.present(layer).ranges()) {
      cache.wait(cache.read_kv(layer, range, rows_of(rows, layer, range)));
      rows.mark_present(layer, range);
    }
    return rows;
  }

  toy::Backend model_;
  typename Device::Memory memory_;
  std::shared_ptr<krul::cuda::PagedPool<Device>> pool_;
  std::int32_t next_page_ = 0;
};

}  // namespace paged
