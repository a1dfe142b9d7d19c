#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/backend/model_backend.hpp"
#include "krul/core/resource.hpp"
#include "krul/cuda/attention_plan.hpp"
#include "krul/cuda/device_batch.hpp"
#include "krul/cuda/device_decoder.hpp"
#include "krul/cuda/device_kv_cache.hpp"
#include "krul/cuda/device_products.hpp"
#include "krul/cuda/device_room.hpp"
#include "krul/cuda/device_weights.hpp"
#include "krul/cuda/kernels/add_squared_weights.hpp"
#include "krul/cuda/kernels/layer_rows.hpp"
#include "krul/cuda/step_range.hpp"
#include "krul/model/gguf.hpp"
#include "krul/model/weights_identity.hpp"

namespace krul::cuda {

/// What a model on a device takes besides its weights, its batches and its caches.
struct DeviceMemory {
  std::size_t tile_rows = 1024;                      ///< rows of a batch whose activations there is room for
  std::size_t staging_bytes = std::size_t{4} << 20;  ///< of each of the 16 slots of pinned memory
  std::size_t room_bytes = std::size_t{16}
                           << 20;  ///< of each of the 32 rooms at most in which a restore decodes chunks
};

namespace detail {

/// What lies between the kernels of an attention.
struct AttentionRoom {
  float *parts, *log_sums;
  std::uint32_t* rows;  ///< [W] whose weights are wanted
  float* weights;       ///< [H, W, K]
  float* times;         ///< [W] what each of them counts
  float* squares;       ///< [K]
};

template <AttentionObserver O>
[[nodiscard]] bool wants_row(const O& observer, Position query) {
  if constexpr (SelectiveObserver<O>) return observer.wants(query);
  return true;
}
template <AttentionObserver O>
[[nodiscard]] bool sums_squares(const O& observer) {
  if constexpr (SummingObserver<O>) return observer.sums();
  return false;
}

/// What a DeviceBackend holds, and what its steps have in common.
template <DeviceApi Device, DeviceProducts<Device> Products>
struct DeviceBackendState {
  using Cache = DeviceKvCache<Device>;
  using Batch = DeviceBatch<Device>;
  using Ring = StagingRing<Device>;

  Device* device;
  GgufFile file;
  DecoderFile model;
  Products products;
  Identity identity = {};
  DeviceMemory sizes;
  std::shared_ptr<Ring> ring;    // on the model's stream
  std::shared_ptr<Ring> copies;  // of rows of caches, on a stream of their own
  std::shared_ptr<const RotaryTable> angles;
  std::optional<DeviceWeights<Device>> weights = {};
  std::shared_ptr<const DeviceProfile<Device>> profile = {};  // that chunks were decoded with last
  std::mutex turn = {};  // of the passes: what lies between two products has one room
  std::optional<typename Device::Memory> memory = {};
  std::size_t memory_bytes = 0;
  std::vector<float> shown = {};  // what is on its way to an observer

  [[nodiscard]] typename Device::Stream& stream() { return ring->stream(); }
  [[nodiscard]] std::size_t query_width() const { return model.geometry.query_heads * model.geometry.head_dim; }
  [[nodiscard]] std::size_t product_width() const { return query_width() + 2 * model.geometry.kv_values(); }

  /// What lay(DeviceRoom&) gives of room on the device, until the next step.
  /// @throws ResultError if there is not so much memory
  template <class Lay>
  [[nodiscard]] auto laid(Lay&& lay) {
    DeviceRoom sizes_alone(nullptr);
    static_cast<void>(lay(sizes_alone));
    if (const std::size_t bytes = sizes_alone.size(); bytes > memory_bytes) {
      memory.reset();
      memory_bytes = 0;
      memory.emplace(or_throw(device->allocate(bytes)));
      memory_bytes = bytes;
    }
    DeviceRoom room(memory->data());
    return lay(room);
  }
  [[nodiscard]] TouchedBytes room_memory() const { return {memory->data(), memory_bytes, true}; }

  /// Launches a kernel over so many rows.
  template <class Kernel, class... Touched>
  void launch(const Kernel& kernel, std::size_t rows, const Touched&... touched) {
    constexpr unsigned threads = 256;
    or_throw(device->launch(stream(), Touching{kernel, std::array{room_memory(), weights->memory(), touched...}},
                            {static_cast<unsigned>(rows), threads, NormRows::shared_bytes(threads)}));
  }
  /// Rows of hidden states, [count, hidden].
  struct HiddenRows {
    const float* values;
    std::size_t count;
  };
  /// Norms of rows, as what products take.
  void norm(const HiddenRows& rows, const float* weight, void* out, const TouchedBytes& batch) {
    launch(NormRows{.rows = rows.values,
                    .weight = weight,
                    .out = out,
                    .type = products.type(),
                    .epsilon = model.norm_epsilon,
                    .count = static_cast<std::uint32_t>(rows.count),
                    .width = static_cast<std::uint32_t>(model.geometry.hidden)},
           rows.count, batch);
  }
  void multiply(const WeightProduct& product, const TouchedBytes& batch) {
    or_throw(products.multiply(stream(), product, {room_memory(), weights->memory(), batch}));
  }

  /// Rows whose weights are shown at once.
  [[nodiscard]] std::size_t most_shown(std::size_t keys) const {
    constexpr std::size_t most_values = std::size_t{8} << 20;
    return std::clamp<std::size_t>(most_values / (model.geometry.query_heads * keys), 1, 128);
  }
  [[nodiscard]] AttentionRows attention_rows(std::size_t layer, const Batch& batch, const Cache& cache) const {
    const Geometry& sizes = model.geometry;
    const auto dim = static_cast<std::uint32_t>(sizes.head_dim);
    return {.queries = batch.device_queries(),
            .positions = batch.device_positions(),
            .keys = cache.keys(layer),
            .values = cache.values(layer),
            .rows = static_cast<std::uint32_t>(batch.rows()),
            .heads = static_cast<std::uint32_t>(sizes.query_heads),
            .kv_heads = static_cast<std::uint32_t>(sizes.kv_heads),
            .dim = dim,
            .scale = score_scale(dim)};
  }
  [[nodiscard]] static TouchedBytes seen_rows(std::size_t layer, const Cache& cache) {
    return {cache.keys(layer), 2 * cache.capacity() * cache.row_bytes(), false};
  }
  /// Asks for the attention of all rows of a batch.
  /// @param shown  how many rows' weights room is wanted for; 0: none are
  AttentionRoom attend_rows(std::size_t layer, const Batch& batch, const Cache& cache, std::size_t shown) {
    const AttentionRows in = attention_rows(layer, batch, cache);
    const std::uint32_t keys = std::as_const(batch).positions().back() + 1;
    const AttentionPlan plan = plan_attention({in.rows, in.heads, in.kv_heads, in.dim, keys, model.geometry.cache_type},
                                              device->multiprocessors());
    const AttentionRoom room = laid([&](DeviceRoom& memory_at) {
      AttentionRoom parts;
      parts.parts = memory_at.template reserve<float>(plan.parts_bytes / sizeof(float));
      parts.log_sums = memory_at.template reserve<float>(shown == 0 ? 0 : std::size_t{in.rows} * in.heads);
      parts.rows = memory_at.template reserve<std::uint32_t>(shown);
      parts.weights = memory_at.template reserve<float>(shown * in.heads * keys);
      parts.times = memory_at.template reserve<float>(shown);
      parts.squares = memory_at.template reserve<float>(shown == 0 ? 0 : keys);
      return parts;
    });
    const AttentionResult to{.type = products.type(),
                             .out = batch.device_attention(),
                             .log_sums = shown == 0 ? nullptr : room.log_sums,
                             .parts = room.parts};
    cuda::attend(in, model.geometry.cache_type, to, plan, [&](const auto& kernel, const Launch& how) {
      or_throw(device->launch(
          stream(), Touching{kernel, std::array{room_memory(), batch.memory(), seen_rows(layer, cache)}}, how));
    });
    return room;
  }
  /// Asks for the weights of some rows after their attention.
  void weigh_rows(std::size_t layer, const Batch& batch, const Cache& cache, std::span<const std::uint32_t> rows,
                  const AttentionRoom& room) {
    ring->to_device(reinterpret_cast<std::byte*>(room.rows), std::as_bytes(rows));
    const WantedWeights wanted{.rows = room.rows,
                               .log_sums = room.log_sums,
                               .weights = room.weights,
                               .count = static_cast<std::uint32_t>(rows.size()),
                               .keys = keys_of(batch, rows)};
    cuda::attention_weights(attention_rows(layer, batch, cache), model.geometry.cache_type, wanted,
                            [&](const auto& kernel, const Launch& how) {
                              const std::array touched{room_memory(), batch.memory(), seen_rows(layer, cache)};
                              or_throw(device->launch(stream(), Touching{kernel, touched}, how));
                            });
  }
  /// They, [H, rows, keys], until the next call.
  [[nodiscard]] std::span<const float> shown_weights(const Batch& batch, std::span<const std::uint32_t> rows,
                                                     const AttentionRoom& room) {
    return read(room.weights, model.geometry.query_heads * rows.size() * keys_of(batch, rows));
  }
  /// Sums of squared weights by key, from zero.
  void clear_squares(const AttentionRoom& room, std::size_t keys) {
    shown.assign(keys, 0.0F);
    ring->to_device(reinterpret_cast<std::byte*>(room.squares), std::as_bytes(std::span<const float>(shown)));
  }
  /// Adds those of rows that have been weighed.
  /// @param counts  [R] of the batch
  void add_squares(const Batch& batch, std::span<const std::uint32_t> rows, std::span<const float> counts,
                   const AttentionRoom& room) {
    std::vector<float> times;
    for (const std::uint32_t row : rows) times.push_back(counts[row]);
    ring->to_device(reinterpret_cast<std::byte*>(room.times), std::as_bytes(std::span<const float>(times)));
    const AddSquaredWeights kernel{.weights = room.weights,
                                   .times = room.times,
                                   .squares = room.squares,
                                   .heads = static_cast<std::uint32_t>(model.geometry.query_heads),
                                   .rows = static_cast<std::uint32_t>(rows.size()),
                                   .keys = keys_of(batch, rows)};
    const std::array touched{room_memory()};
    or_throw(device->launch(stream(), Touching{kernel, touched}, kernel.launch()));
  }
  [[nodiscard]] std::span<const float> squares(const AttentionRoom& room, std::size_t keys) {
    return read(room.squares, keys);
  }

  /// Keys that the last of some rows sees.
  [[nodiscard]] static std::uint32_t keys_of(const Batch& batch, std::span<const std::uint32_t> rows) {
    return batch.positions()[rows.back()] + 1;
  }
  /// Waits for floats of the device's room; they are there until the next call.
  [[nodiscard]] std::span<const float> read(const float* from, std::size_t count) {
    shown.resize(count);
    ring->from_device(std::as_writable_bytes(std::span(shown)), reinterpret_cast<const std::byte*>(from));
    ring->finish_reads();
    return shown;
  }

  /// Calls step(first, count) for the tiles of a batch's rows.
  template <class Step>
  void by_tiles(std::size_t rows, Step&& step) const {
    for (std::size_t first = 0; first < rows; first += sizes.tile_rows)
      step(first, std::min(sizes.tile_rows, rows - first));
  }
};

}  // namespace detail
}  // namespace krul::cuda
