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

struct DeviceBackendOptions {
  ElementType cache_type = ElementType::f16;
  std::string tokenizer = {};  ///< hash for the identity
  DecoderLimits limits = {};
  DeviceMemory memory = {};
};

/// The forward pass of llama and qwen2 models on a device.
///
/// Products go to `Products`, all else to krul's own kernels; hidden states, queries, sums and softmax are f32. All of
/// it is asked for on one stream, the caller's or its own, and nothing waits but logits for the host. Passes with
/// different batches and caches may run at once in different threads; they take turns on the stream.
template <DeviceApi Device, DeviceProducts<Device> Products>
class DeviceBackend {
 public:
  using Cache = DeviceKvCache<Device>;
  using Batch = DeviceBatch<Device>;
  using Decoder = DeviceDecoder<Device>;
  static constexpr Resource computes_on = Resource::device;

  /// @param device  kept by reference
  /// @param stream  for the model's kernels
  /// @throws PreconditionError if a tile has no rows
  /// @return as DecoderFile::read and DeviceWeights::load; unsupported for heads that its attention has no tiles for;
  ///         too_large or backend if the device has no room or fails
  [[nodiscard]] static Result<DeviceBackend> load(GgufFile file, Device& device, typename Device::Stream stream,
                                                  Products products, const DeviceBackendOptions& options = {});

  [[nodiscard]] const Geometry& geometry() const { return state_->model.geometry; }
  [[nodiscard]] const Identity& identity() const { return state_->identity; }
  /// @throws ResultError if the device has no memory for it
  [[nodiscard]] Cache make_cache(std::size_t capacity) const {
    return Cache(*state_->device, geometry(), capacity, state_->copies);
  }
  [[nodiscard]] Batch make_batch() const {
    return Batch(*state_->device, geometry(), state_->ring, state_->angles, state_->products.type());
  }

  /// The profile of the last one that is made is kept on the device.
  /// @throws ResultError if the device has no memory for it; PreconditionError if it is another model's
  [[nodiscard]] Decoder make_decoder(const std::shared_ptr<const Profile>& profile);

  /// Reads the rows of the embedding in the file, to the bits that a CPU has: profiles predict from them.
  /// @throws PreconditionError if the tokens are not as many as the rows or not in the vocabulary
  void embed(std::span<const Token> tokens, Batch& batch);
  /// @throws PreconditionError if there is no such layer, or a row lies beyond the cache or the model's context;
  ///         ResultError, as all steps, if the device fails
  void project(std::size_t layer, Batch& batch, Cache& cache, KvWrite write);
  /// The observer must not call the model: it is called while others wait for their turn.
  /// @throws PreconditionError if there is no such layer, or a key that a row may see is not present
  template <AttentionObserver O>
  void attend(std::size_t layer, Batch& batch, Cache& cache, O&& observer);
  /// @throws PreconditionError if there is no such layer
  void finish(std::size_t layer, Batch& batch);
  /// @throws PreconditionError if the rows are not in the batch or `out` is not [rows, vocabulary]
  void logits(Batch& batch, RowRange rows, std::span<float> out);

 private:
  struct State;
  explicit DeviceBackend(std::unique_ptr<State> state) : state_(std::move(state)) {}
  std::unique_ptr<State> state_;
};

}  // namespace krul::cuda

#include "krul/cuda/detail/device_backend_impl.hpp"
