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

#include "krul/backend/mark_rows.hpp"
#include "krul/backend/model_backend.hpp"
#include "krul/core/resource.hpp"
#include "krul/cuda/attention_plan.hpp"
#include "krul/cuda/detail/device_backend_state.hpp"
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
  using State = detail::DeviceBackendState<Device, Products>;
  explicit DeviceBackend(std::unique_ptr<State> state) : state_(std::move(state)) {}
  std::unique_ptr<State> state_;
};

template <DeviceApi Device, DeviceProducts<Device> Products>
Result<DeviceBackend<Device, Products>> DeviceBackend<Device, Products>::load(GgufFile file, Device& device,
                                                                              typename Device::Stream stream,
                                                                              Products products,
                                                                              const DeviceBackendOptions& options) try {
  expects(options.memory.tile_rows > 0, "DeviceBackend: tiles have rows");
  auto model = DecoderFile::read(file, options.cache_type, options.limits);
  if (!model) return propagate(model);
  const Geometry& geometry = model->geometry;
  if (geometry.head_dim % 8 != 0 || geometry.head_dim > 256)
    return fail(ErrorCode::unsupported, "heads of " + std::to_string(geometry.head_dim) + " values in " + file.path() +
                                            ": on a device they have a multiple of 8 up to 256; use the CPU");
  using Ring = StagingRing<Device>;
  const typename Ring::Size staging{.slots = 8, .slot_bytes = options.memory.staging_bytes};
  auto ring = std::make_shared<Ring>(device, std::move(stream), staging);
  auto copies = std::make_shared<Ring>(device, or_throw(device.make_stream()), staging);
  auto angles = std::make_shared<const RotaryTable>(geometry.rotary, geometry.context);
  auto state = std::unique_ptr<State>(new State{.device = &device,
                                                .file = std::move(file),
                                                .model = std::move(*model),
                                                .products = std::move(products),
                                                .sizes = options.memory,
                                                .ring = std::move(ring),
                                                .copies = std::move(copies),
                                                .angles = std::move(angles)});
  auto weights = DeviceWeights<Device>::load(device, *state->ring, state->file, state->model, state->products.type());
  if (!weights) return propagate(weights);
  state->weights.emplace(std::move(*weights));
  state->identity = {.architecture = state->model.architecture,
                     .weights = weights_identity(state->file, state->model.architecture),
                     .tokenizer = options.tokenizer,
                     .geometry = describe(state->model.geometry),
                     .profile = {},
                     .kernels = state->products.name(),
                     .processor = {},
                     .threads = {},
                     .former_weights = weights_hash(state->file)};
  return DeviceBackend(std::move(state));
} catch (const ResultError& error) {
  return tl::unexpected<Error>(error.error);
}

template <DeviceApi Device, DeviceProducts<Device> Products>
DeviceDecoder<Device> DeviceBackend<Device, Products>::make_decoder(const std::shared_ptr<const Profile>& profile) {
  State& state = *state_;
  const std::scoped_lock turn(state.turn);
  if (profile && (!state.profile || state.profile->profile() != profile))
    state.profile = std::make_shared<const DeviceProfile<Device>>(*state.device, *state.copies, profile);
  auto rooms = std::make_shared<DecodingRooms<Device>>(
      *state.device, state.copies, typename DecodingRooms<Device>::Size{.room_bytes = state.sizes.room_bytes});
  return Decoder(std::move(rooms), profile ? state.profile : nullptr, geometry());
}

template <DeviceApi Device, DeviceProducts<Device> Products>
void DeviceBackend<Device, Products>::embed(std::span<const Token> tokens, Batch& batch) {
  expects(tokens.size() == batch.rows(), "embed: as many tokens as rows");
  for (const Token token : tokens)
    expects(token >= 0 && static_cast<std::size_t>(token) < geometry().vocabulary, "embed: no such token");
  const std::size_t width = geometry().hidden;
  const auto hidden = batch.new_hidden();
  for (std::size_t row = 0; row < tokens.size(); ++row)
    // Cannot fail: the type and the row's length were checked when the file was read.
    (void)read_rows(*state_->model.embedding, static_cast<std::size_t>(tokens[row]),
                    hidden.subspan(row * width, width));
}

template <DeviceApi Device, DeviceProducts<Device> Products>
void DeviceBackend<Device, Products>::project(std::size_t layer, Batch& batch, Cache& cache, KvWrite write) {
  State& state = *state_;
  const Geometry& sizes = geometry();
  expects(layer < sizes.layers, "project: no such layer");
  const auto positions = std::as_const(batch).positions();
  if (positions.empty()) return;
  expects(positions.back() < std::min(cache.capacity(), sizes.context),
          "project: a row lies beyond the cache or the model's context");
  std::vector<std::uint8_t> written;  // empty: all rows alike
  if (write == KvWrite::missing && !cache.present(layer).ranges().empty())
    for (const Position position : positions)
      written.push_back(!cache.present(layer).contains({position, position + std::size_t{1}}));

  const std::scoped_lock turn(state.turn);
  const StepRange range(*state.device, "project");
  batch.settle();
  const auto weights = state.weights->layer(layer);
  const ElementType type = state.products.type();
  const std::size_t most = std::min(state.sizes.tile_rows, positions.size());
  const auto [flags, normed, product] = state.laid([&](DeviceRoom& room) {
    auto* const flags = room.reserve<std::uint8_t>(written.size());
    auto* const normed = room.reserve<std::byte>(most * sizes.hidden * size_of(type));
    auto* const product = room.reserve<float>(most * state.product_width());
    return std::tuple(flags, normed, product);
  });
  if (!written.empty()) state.ring->to_device(reinterpret_cast<std::byte*>(flags), std::as_bytes(std::span(written)));

  RowsInUse use(cache, Rows::computed, state.stream());
  const TouchedBytes rows_of_layer{cache.keys(layer), 2 * cache.capacity() * cache.row_bytes(), true};
  state.by_tiles(positions.size(), [&, flags = flags, normed = normed, product = product](std::size_t first,
                                                                                          std::size_t count) {
    const auto rows = static_cast<std::uint32_t>(count);
    state.norm({batch.device_hidden() + first * sizes.hidden, count}, weights.attention_norm, normed, batch.memory());
    state.multiply({.rows = normed,
                    .weights = weights.query_key_value,
                    .out = product,
                    .count = rows,
                    .columns = static_cast<std::uint32_t>(state.product_width()),
                    .depth = static_cast<std::uint32_t>(sizes.hidden)},
                   batch.memory());
    state.launch(PlaceRows{.product = product,
                           .bias = weights.bias,
                           .angles = batch.device_angles() + first * sizes.rotary.dimensions,
                           .position = batch.device_positions() + first,
                           .written = written.empty() ? nullptr : flags + first,
                           .queries = batch.device_queries() + first * state.query_width(),
                           .keys = write == KvWrite::none ? nullptr : cache.keys(layer),
                           .values = cache.values(layer),
                           .type = sizes.cache_type,
                           .count = rows,
                           .query_heads = static_cast<std::uint32_t>(sizes.query_heads),
                           .kv_heads = static_cast<std::uint32_t>(sizes.kv_heads),
                           .head_dim = static_cast<std::uint32_t>(sizes.head_dim),
                           .rotary_dimensions = static_cast<std::uint32_t>(sizes.rotary.dimensions),
                           .interleaved = sizes.rotary.pairs == RotaryPairs::interleaved},
                 count, batch.memory(), rows_of_layer);
  });
  use.done();
  if (write != KvWrite::none) mark_rows(cache, layer, positions);
}

template <DeviceApi Device, DeviceProducts<Device> Products>
template <AttentionObserver O>
void DeviceBackend<Device, Products>::attend(std::size_t layer, Batch& batch, Cache& cache, O&& observer) {
  constexpr bool observed = !std::is_same_v<std::remove_cvref_t<O>, NullObserver>;
  State& state = *state_;
  const auto positions = std::as_const(batch).positions();
  expects(layer < geometry().layers, "attend: no such layer");
  if (positions.empty()) return;
  expects(cache.present(layer).contains({0, positions.back() + std::size_t{1}}),
          "attend: a key that a row may see is not present");
  std::vector<std::uint32_t> wanted;
  std::span<const float> counts;
  const bool sums = detail::sums_squares(observer);
  if constexpr (SummingObserver<std::remove_cvref_t<O>>)
    if (sums) counts = observer.counts(layer, positions);
  for (std::size_t row = 0; observed && row < positions.size(); ++row)
    if (sums ? counts[row] != 0 : detail::wants_row(observer, positions[row]))
      wanted.push_back(static_cast<std::uint32_t>(row));

  const std::scoped_lock turn(state.turn);
  const StepRange range(*state.device, "attend");
  batch.settle();
  RowsInUse use(cache, Rows::computed, state.stream());
  const std::size_t most = state.most_shown(positions.back() + std::size_t{1});
  detail::AttentionRoom room =
      state.attend_rows(layer, batch, cache, wanted.empty() ? 0 : std::min(most, wanted.size()));
  if (sums && !wanted.empty()) state.clear_squares(room, positions[wanted.back()] + std::size_t{1});
  std::vector<Position> shown;
  for (std::size_t first = 0; first < wanted.size(); first += most) {
    const auto rows = std::span(wanted).subspan(first, std::min(most, wanted.size() - first));
    state.weigh_rows(layer, batch, cache, rows, room);
    if (sums) {
      state.add_squares(batch, rows, counts, room);
      continue;
    }
    shown.clear();
    for (const std::uint32_t row : rows) shown.push_back(positions[row]);
    const auto weights = state.shown_weights(batch, rows, room);
    if constexpr (observed)
      observer(AttentionBlock{layer, shown, shown.back() + std::size_t{1}, geometry().query_heads, weights});
  }
  use.done();
  if constexpr (SummingObserver<std::remove_cvref_t<O>>)
    if (sums && !wanted.empty())
      observer.take_squares(layer, state.squares(room, positions[wanted.back()] + std::size_t{1}));
}

template <DeviceApi Device, DeviceProducts<Device> Products>
void DeviceBackend<Device, Products>::finish(std::size_t layer, Batch& batch) {
  State& state = *state_;
  const Geometry& sizes = geometry();
  expects(layer < sizes.layers, "finish: no such layer");
  if (batch.rows() == 0) return;
  const std::scoped_lock turn(state.turn);
  const StepRange range(*state.device, "finish");
  batch.settle();
  const auto weights = state.weights->layer(layer);
  const ElementType type = state.products.type();
  const std::size_t most = std::min(state.sizes.tile_rows, batch.rows()), mlp = state.model.mlp;
  const auto [normed, product, active] = state.laid([&](DeviceRoom& room) {
    auto* const normed = room.reserve<std::byte>(most * sizes.hidden * size_of(type));
    auto* const product = room.reserve<float>(most * 2 * mlp);
    auto* const active = room.reserve<std::byte>(most * mlp * size_of(type));
    return std::tuple(normed, product, active);
  });
  const auto hidden = static_cast<std::uint32_t>(sizes.hidden), wide = static_cast<std::uint32_t>(mlp);
  state.by_tiles(batch.rows(), [&, normed = normed, product = product, active = active](std::size_t first,
                                                                                        std::size_t count) {
    const auto rows = static_cast<std::uint32_t>(count);
    float* const of_rows = batch.device_hidden() + first * sizes.hidden;
    state.multiply({.rows = batch.device_attention() + first * state.query_width() * size_of(type),
                    .weights = weights.output,
                    .out = of_rows,
                    .count = rows,
                    .columns = hidden,
                    .depth = static_cast<std::uint32_t>(state.query_width()),
                    .add = true},
                   batch.memory());
    state.norm({of_rows, count}, weights.mlp_norm, normed, batch.memory());
    state.multiply({.rows = normed,
                    .weights = weights.gate_up,
                    .out = product,
                    .count = rows,
                    .columns = 2 * wide,
                    .depth = hidden},
                   batch.memory());
    state.launch(ActivateRows{.product = product, .out = active, .type = type, .count = rows, .width = wide}, count);
    state.multiply({.rows = active,
                    .weights = weights.down,
                    .out = of_rows,
                    .count = rows,
                    .columns = hidden,
                    .depth = wide,
                    .add = true},
                   batch.memory());
  });
}

template <DeviceApi Device, DeviceProducts<Device> Products>
void DeviceBackend<Device, Products>::logits(Batch& batch, RowRange rows, std::span<float> out) {
  State& state = *state_;
  const Geometry& sizes = geometry();
  expects(rows.begin <= rows.end && rows.end <= batch.rows(), "logits: the rows are not in the batch");
  expects(out.size() == rows.size() * sizes.vocabulary, "logits: the output is not [rows, vocabulary]");
  if (rows.size() == 0) return;
  const std::scoped_lock turn(state.turn);
  const StepRange range(*state.device, "logits");
  batch.settle();
  const ElementType type = state.products.type();
  constexpr std::size_t most_values = std::size_t{16} << 20;
  const std::size_t most = std::clamp<std::size_t>(most_values / sizes.vocabulary, 1, rows.size());
  const auto [normed, product] = state.laid([&](DeviceRoom& room) {
    auto* const normed = room.reserve<std::byte>(most * sizes.hidden * size_of(type));
    auto* const product = room.reserve<float>(most * sizes.vocabulary);
    return std::tuple(normed, product);
  });
  for (std::size_t first = 0; first < rows.size(); first += most) {
    const std::size_t count = std::min(most, rows.size() - first);
    state.norm({batch.device_hidden() + (rows.begin + first) * sizes.hidden, count}, state.weights->output_norm(),
               normed, batch.memory());
    state.multiply({.rows = normed,
                    .weights = state.weights->output(),
                    .out = product,
                    .count = static_cast<std::uint32_t>(count),
                    .columns = static_cast<std::uint32_t>(sizes.vocabulary),
                    .depth = static_cast<std::uint32_t>(sizes.hidden)},
                   batch.memory());
    state.ring->from_device(std::as_writable_bytes(out.subspan(first * sizes.vocabulary, count * sizes.vocabulary)),
                            reinterpret_cast<const std::byte*>(product));
  }
  state.ring->finish_reads();
}

}  // namespace krul::cuda
