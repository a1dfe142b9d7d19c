#pragma once

// The members of DeviceBackend.

namespace krul::cuda {
namespace detail {

/// What lies between the kernels of an attention.
struct AttentionRoom {
  float *parts, *log_sums;
  std::uint32_t* rows;  ///< [W] whose weights are wanted
  float* weights;       ///< [H, W, K]
  float* times;         ///< [W] what each of them counts
  float* squares;       ///< [K]
  std::size_t bytes;
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

}  // namespace detail

template <DeviceApi Device, DeviceProducts<Device> Products>
struct DeviceBackend<Device, Products>::State {
  using Ring = StagingRing<Device>;
  using AttentionRoom = detail::AttentionRoom;

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

  /// Room on the device until the next step.
  /// @throws ResultError if there is not so much memory
  DeviceRoom room(std::size_t bytes) {
    if (bytes > memory_bytes) {
      memory.reset();
      memory_bytes = 0;
      memory.emplace(or_throw(device->allocate(bytes)));
      memory_bytes = bytes;
    }
    return DeviceRoom(memory->data());
  }
  [[nodiscard]] TouchedBytes room_memory() const { return {memory->data(), memory_bytes, true}; }

  /// Launches a kernel over so many rows.
  template <class Kernel, class... Touched>
  void launch(const Kernel& kernel, std::size_t rows, const Touched&... touched) {
    constexpr unsigned threads = 256;
    or_throw(device->launch(stream(), Touching{kernel, std::array{room_memory(), weights->memory(), touched...}},
                            {static_cast<unsigned>(rows), threads, NormRows::shared_bytes(threads)}));
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
    const auto lay = [&](DeviceRoom memory_at) {
      AttentionRoom room;
      room.parts = memory_at.template reserve<float>(plan.parts_bytes / sizeof(float));
      room.log_sums = memory_at.template reserve<float>(shown == 0 ? 0 : std::size_t{in.rows} * in.heads);
      room.rows = memory_at.template reserve<std::uint32_t>(shown);
      room.weights = memory_at.template reserve<float>(shown * in.heads * keys);
      room.times = memory_at.template reserve<float>(shown);
      room.squares = memory_at.template reserve<float>(shown == 0 ? 0 : keys);
      room.bytes = memory_at.size();
      return room;
    };
    this->room(lay(DeviceRoom(nullptr)).bytes);
    const AttentionRoom room = lay(DeviceRoom(memory->data()));
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
  const auto lay = [&](DeviceRoom room) {
    auto* const flags = room.reserve<std::uint8_t>(written.size());
    auto* const normed = room.reserve<std::byte>(most * sizes.hidden * size_of(type));
    auto* const product = room.reserve<float>(most * state.product_width());
    return std::tuple(flags, normed, product, room.size());
  };
  state.room(std::get<3>(lay(DeviceRoom(nullptr))));
  const auto [flags, normed, product, bytes] = lay(DeviceRoom(state.memory->data()));
  if (!written.empty()) state.ring->to_device(reinterpret_cast<std::byte*>(flags), std::as_bytes(std::span(written)));

  RowsInUse use(cache, Rows::computed, state.stream());
  const TouchedBytes rows_of_layer{cache.keys(layer), 2 * cache.capacity() * cache.row_bytes(), true};
  state.by_tiles(positions.size(),
                 [&, flags = flags, normed = normed, product = product](std::size_t first, std::size_t count) {
                   const auto rows = static_cast<std::uint32_t>(count);
                   state.launch(NormRows{.rows = batch.device_hidden() + first * sizes.hidden,
                                         .weight = weights.attention_norm,
                                         .out = normed,
                                         .type = type,
                                         .epsilon = state.model.norm_epsilon,
                                         .count = rows,
                                         .width = static_cast<std::uint32_t>(sizes.hidden)},
                                count, batch.memory());
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
  if (write == KvWrite::none) return;
  for (std::size_t begin = 0, end; begin < positions.size(); begin = end) {  // neighbouring positions at once
    for (end = begin + 1; end < positions.size() && positions[end] == positions[end - 1] + 1; ++end) {
    }
    cache.mark_present(layer, {positions[begin], positions[end - 1] + std::size_t{1}});
  }
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
  const auto lay = [&](DeviceRoom room) {
    auto* const normed = room.reserve<std::byte>(most * sizes.hidden * size_of(type));
    auto* const product = room.reserve<float>(most * 2 * mlp);
    auto* const active = room.reserve<std::byte>(most * mlp * size_of(type));
    return std::tuple(normed, product, active, room.size());
  };
  state.room(std::get<3>(lay(DeviceRoom(nullptr))));
  const auto [normed, product, active, bytes] = lay(DeviceRoom(state.memory->data()));
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
    state.launch(NormRows{.rows = of_rows,
                          .weight = weights.mlp_norm,
                          .out = normed,
                          .type = type,
                          .epsilon = state.model.norm_epsilon,
                          .count = rows,
                          .width = hidden},
                 count, batch.memory());
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
  const auto lay = [&](DeviceRoom room) {
    auto* const normed = room.reserve<std::byte>(most * sizes.hidden * size_of(type));
    auto* const product = room.reserve<float>(most * sizes.vocabulary);
    return std::tuple(normed, product, room.size());
  };
  state.room(std::get<2>(lay(DeviceRoom(nullptr))));
  const auto [normed, product, bytes] = lay(DeviceRoom(state.memory->data()));
  for (std::size_t first = 0; first < rows.size(); first += most) {
    const std::size_t count = std::min(most, rows.size() - first);
    state.launch(NormRows{.rows = batch.device_hidden() + (rows.begin + first) * sizes.hidden,
                          .weight = state.weights->output_norm(),
                          .out = normed,
                          .type = type,
                          .epsilon = state.model.norm_epsilon,
                          .count = static_cast<std::uint32_t>(count),
                          .width = static_cast<std::uint32_t>(sizes.hidden)},
                 count, batch.memory());
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
