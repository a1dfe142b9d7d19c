#pragma once

// The members of CpuBackend. Include this beside cpu_backend.hpp to instantiate it with kernels of your own.

#include <algorithm>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "krul/core/processor.hpp"
#include "krul/core/workers.hpp"
#include "krul/model/cpu_backend.hpp"
#include "krul/model/decoder_file.hpp"
#include "krul/model/detail/cpu_team.hpp"
#include "krul/model/layer_ops.hpp"

namespace krul {
namespace detail {

/// Some columns of a product, from the rows of a tensor; without a tensor they are zero.
struct ColumnRun {
  const GgufTensor* tensor;
  std::size_t first_row;
  std::size_t columns;
};

/// Gate and up take turns panel by panel, so that one run of panels holds both factors of its activations.
inline std::vector<ColumnRun> interleaved(const GgufTensor* gate, const GgufTensor* up, std::size_t columns) {
  std::vector<ColumnRun> runs;
  for (std::size_t first = 0; first < columns; first += panel_columns) {
    const std::size_t count = std::min(panel_columns, columns - first);
    for (const auto* tensor : {gate, up}) {
      runs.push_back({tensor, first, count});
      if (count < panel_columns) runs.push_back({nullptr, 0, panel_columns - count});
    }
  }
  return runs;
}

}  // namespace detail

template <MatrixKernels K>
struct CpuBackend<K>::State {
  struct Layer {
    std::vector<float> attention_norm, mlp_norm;  // [hidden]
    std::vector<float> bias;                      // [(H + 2 G) * D], or empty
    typename K::Packed query_key_value;           // [(H + 2 G) * D, hidden]
    typename K::Packed output;                    // [hidden, H * D]
    typename K::Packed gate_up;                   // [2 * whole panels of mlp, hidden], see interleaved
    typename K::Packed down;                      // [hidden, mlp]
  };
  /// Activations of one tile, in the kernels' input type but for the keys and values.
  struct TileBuffers {
    AlignedBuffer input;       // [tile_rows, widest depth]
    AlignedBuffer activated;   // [tile_rows, mlp]
    AlignedBuffer key_values;  // [tile_rows, 2 * G * D] f32
  };
  /// What one worker has for itself.
  struct WorkerRoom {
    AlignedBuffer row;      // [widest depth] f32
    AlignedBuffer product;  // [tile_rows, block_columns] f32
    TileBuffers tile;
    typename K::Scratch kernels;
  };

  GgufFile file;
  DecoderFile model;
  K kernels;
  Identity identity;
  Workers workers;
  BlockAttention attention;
  LayerOps ops;
  RotaryTable rotary;
  std::vector<float> output_norm;
  AlignedBuffer weights;  // of all matrices
  std::vector<Layer> layers;
  typename K::Packed output;
  std::vector<WorkerRoom> rooms;  // by worker; only used inside a task
  detail::Pool<TileBuffers> shared;
  std::shared_ptr<HostKvMemory> cache_memory = std::make_shared<HostKvMemory>();
  detail::Pool<AlignedBuffer> observed;  // attention weights on their way to an observer

  State(GgufFile from, DecoderFile description, K with, std::size_t threads)
      : file(std::move(from)),
        model(std::move(description)),
        kernels(std::move(with)),
        workers(threads),
        attention(model.geometry, threads, kernels.precision()),
        rotary(model.geometry.rotary, model.geometry.context) {
    for (std::size_t worker = 0; worker < threads; ++worker) {
      rooms.push_back({AlignedBuffer(widest() * sizeof(float)),
                       AlignedBuffer(detail::tile_rows * block_columns * sizeof(float)),
                       {},
                       kernels.make_scratch()});
      reserve(rooms.back().tile);
    }
  }

  [[nodiscard]] std::size_t query_width() const { return model.geometry.query_heads * model.geometry.head_dim; }
  [[nodiscard]] std::size_t widest() const { return std::max({model.geometry.hidden, query_width(), model.mlp}); }

  void reserve(TileBuffers& tile) const {
    tile.input.reserve(detail::tile_rows * kernels.row_bytes(std::max(model.geometry.hidden, query_width())));
    tile.activated.reserve(detail::tile_rows * kernels.row_bytes(model.mlp));
    tile.key_values.reserve(detail::tile_rows * 2 * model.geometry.kv_values() * sizeof(float));
  }

  Status load_weights(const std::string& tokenizer);

  // ---- a pass ----

  /// Cuts rows into tiles and calls step(first, count, team, buffers) for each.
  template <class Step>
  void by_tiles(std::size_t rows, bool together, Step&& step) {
    constexpr std::size_t fewest = 32;  // rows of a tile; below, reading the weights takes longer than multiplying
    const std::size_t threads = workers.threads();
    if (together || rows < fewest * threads || threads == 1) {
      const auto lease = shared.borrow();
      reserve(*lease);
      for (std::size_t first = 0; first < rows; first += detail::tile_rows)
        step(first, std::min(detail::tile_rows, rows - first), detail::TogetherOnTile{&workers}, *lease);
      return;
    }
    // As many tiles as fill whole rounds of the team, all but the last of one height.
    const std::size_t rounds = (rows + threads * detail::tile_rows - 1) / (threads * detail::tile_rows);
    const std::size_t even = (rows + threads * rounds - 1) / (threads * rounds);
    const std::size_t height = std::min((even + 7) / 8 * 8, detail::tile_rows);
    workers.parallel_for((rows + height - 1) / height, [&](std::size_t tile, std::size_t worker) {
      const std::size_t first = tile * height;
      step(first, std::min(height, rows - first), detail::AloneOnTile{worker}, rooms[worker].tile);
    });
  }

  /// input rows * packed, handed to take(PanelRange, RowRange, y) block by block, y [rows, columns of the panels].
  template <class Team, class Take>
  void multiply(const Team& team, const typename K::Packed& packed, std::size_t count, const AlignedBuffer& input,
                std::size_t unit, Take&& take) {
    const std::size_t row_bytes = kernels.row_bytes(packed.depth());
    team.panels(panels_of(packed.columns()), unit, [&](PanelRange panels, std::size_t worker) {
      const auto y = rooms[worker].product.template as<float>();
      for (RowRange rows{0, 0}; rows.begin < count; rows.begin = rows.end) {
        rows.end = std::min(rows.begin + kernels.block_rows(), count);
        kernels.multiply(packed, panels, {input.data() + rows.begin * row_bytes, rows.size() * row_bytes}, y,
                         rooms[worker].kernels);
        take(panels, rows, y);
      }
    });
  }

  /// A prepared row of that depth.
  [[nodiscard]] std::span<std::byte> row_of(const AlignedBuffer& rows, std::size_t row, std::size_t depth) const {
    const std::size_t bytes = kernels.row_bytes(depth);
    return {rows.data() + row * bytes, bytes};
  }

  /// Norm of some rows, as input of a product.
  template <class Team>
  void norm_rows(const Team& team, std::span<const float> hidden, std::size_t count, std::span<const float> weight,
                 const AlignedBuffer& input) {
    const std::size_t width = weight.size();
    team.rows(count, [&](std::size_t row, std::size_t worker) {
      const auto normed = rooms[worker].row.template as<float>().first(width);
      ops.rms_norm(hidden.subspan(row * width, width), weight, model.norm_epsilon, normed);
      kernels.prepare(normed, 0, row_of(input, row, width));
    });
  }

  /// hidden += input * packed
  template <class Team>
  void add_product(const Team& team, const typename K::Packed& packed, std::size_t count, const AlignedBuffer& input,
                   std::span<float> hidden) {
    const std::size_t width = packed.columns();
    multiply(team, packed, count, input, 1, [&](PanelRange panels, RowRange rows, std::span<const float> y) {
      const std::size_t stride = panels.size() * panel_columns, begin = panels.begin * panel_columns,
                        end = std::min(panels.end * panel_columns, width);
      for (std::size_t row = rows.begin; row < rows.end; ++row)
        ops.add(hidden.subspan(row * width + begin, end - begin), y.subspan((row - rows.begin) * stride, end - begin));
    });
  }
};

template <MatrixKernels K>
Status CpuBackend<K>::State::load_weights(const std::string& tokenizer) {
  const auto vector = [](const GgufTensor* tensor, std::vector<float>& values) -> Status {
    const std::size_t before = values.size();
    values.resize(before + static_cast<std::size_t>(tensor->values()));
    return read_rows(*tensor, 0, std::span(values).subspan(before));
  };
  struct Matrix {
    typename K::Packed* packed;
    std::vector<detail::ColumnRun> runs;
    std::size_t columns, depth;
    std::size_t offset;  // bytes into the weights
  };
  const Geometry& geometry = model.geometry;
  std::vector<Matrix> matrices;
  const auto add = [&](typename K::Packed& packed, std::size_t depth, std::vector<detail::ColumnRun> runs) {
    std::size_t columns = 0;
    for (const auto& run : runs) columns += run.columns;
    matrices.push_back({&packed, std::move(runs), columns, depth, 0});
  };

  if (const auto status = vector(model.output_norm, output_norm); !status) return status;
  layers.resize(geometry.layers);
  for (std::size_t l = 0; l < geometry.layers; ++l) {
    const auto& from = model.layers[l];
    auto& layer = layers[l];
    Status status = vector(from.attention_norm, layer.attention_norm);
    if (status) status = vector(from.mlp_norm, layer.mlp_norm);
    if (from.query_bias != nullptr && from.key_bias != nullptr && from.value_bias != nullptr)
      for (const auto* bias : {from.query_bias, from.key_bias, from.value_bias})
        if (status) status = vector(bias, layer.bias);
    if (!status) return status;
    add(layer.query_key_value, geometry.hidden,
        {{from.query, 0, query_width()}, {from.key, 0, geometry.kv_values()}, {from.value, 0, geometry.kv_values()}});
    add(layer.output, query_width(), {{from.output, 0, geometry.hidden}});
    add(layer.gate_up, geometry.hidden, detail::interleaved(from.gate, from.up, model.mlp));
    add(layer.down, model.mlp, {{from.down, 0, geometry.hidden}});
  }
  add(output, geometry.hidden, {{model.output, 0, geometry.vocabulary}});

  // All matrices lie in one piece of memory: large pages have no seams then, and reading runs on from one to the next.
  std::size_t bytes = 0;
  for (auto& matrix : matrices) {
    matrix.offset = bytes;
    bytes += (kernels.packed_bytes(matrix.columns, matrix.depth) + 63) / 64 * 64;
  }
  weights = AlignedBuffer(bytes);
  for (auto& matrix : matrices)
    *matrix.packed =
        kernels.make_packed(matrix.columns, matrix.depth, weights.template as<std::byte>().subspan(matrix.offset));

  // One task unpacks a block of columns of one matrix, so that little is held as f32 at a time. The hash is the first.
  struct Task {
    const Matrix* matrix;
    std::size_t block;
  };
  std::vector<Task> tasks{{nullptr, 0}};
  for (auto matrix = matrices.rbegin(); matrix != matrices.rend(); ++matrix)
    for (std::size_t block = 0; block * block_columns < matrix->packed->columns(); ++block)
      tasks.push_back({&*matrix, block});
  std::vector<AlignedBuffer> room(workers.threads());
  for (auto& buffer : room) buffer = AlignedBuffer(block_columns * widest() * sizeof(float));
  std::mutex mutex;
  Status first_failure;
  std::exception_ptr thrown;

  const auto unpack = [&](const Task& task, std::size_t worker) -> Status {
    auto& packed = *task.matrix->packed;
    const std::size_t depth = packed.depth(), begin = task.block * block_columns;
    const std::size_t end = std::min(begin + block_columns, packed.columns());
    const auto values = room[worker].template as<float>().first((end - begin) * depth);
    std::size_t run_begin = 0;
    for (const auto& run : task.matrix->runs) {
      const std::size_t from = std::max(run_begin, begin), to = std::min(run_begin + run.columns, end);
      if (from < to) {
        const auto part = values.subspan((from - begin) * depth, (to - from) * depth);
        if (run.tensor == nullptr)
          std::fill(part.begin(), part.end(), 0.0F);
        else if (const auto status = read_rows(*run.tensor, run.first_row + from - run_begin, part); !status)
          return status;
      }
      run_begin += run.columns;
    }
    kernels.pack(packed, task.block * block_panels, values, rooms[worker].kernels);
    return {};
  };
  workers.parallel_for(tasks.size(), [&](std::size_t index, std::size_t worker) {
    try {
      Status status;
      if (tasks[index].matrix == nullptr)
        identity.weights = weights_hash(file);
      else
        status = unpack(tasks[index], worker);
      if (status) return;
      const std::lock_guard lock(mutex);
      if (first_failure) first_failure = status;
    } catch (...) {
      const std::lock_guard lock(mutex);
      thrown = std::current_exception();
    }
  });
  if (thrown) std::rethrow_exception(thrown);
  if (!first_failure) return first_failure;

  identity.architecture = model.architecture;
  identity.tokenizer = tokenizer;
  identity.geometry = describe(geometry);
  identity.kernels = kernels.name();
  identity.processor = Processor::detect().describe();
  identity.threads = std::to_string(workers.threads());
  return {};
}

template <MatrixKernels K>
Result<CpuBackend<K>> CpuBackend<K>::load(GgufFile file, K kernels, const CpuBackendOptions& options) {
  constexpr std::size_t most_threads = 1024;
  const std::size_t threads =
      options.threads != 0 ? options.threads : std::max<std::size_t>(std::thread::hardware_concurrency(), 1);
  if (threads > most_threads)
    return fail(ErrorCode::invalid_argument, "krul runs on at most 1024 threads: ask for fewer");
  auto model = DecoderFile::read(file, options.cache_type);
  if (!model) return propagate(model);
  const std::string path = file.path();
  try {
    auto state = std::make_unique<State>(std::move(file), std::move(*model), std::move(kernels), threads);
    if (const auto status = state->load_weights(options.tokenizer); !status) return propagate(status);
    return CpuBackend(std::move(state));
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::too_large, "not enough memory for the weights of " + path + ": use a smaller model or bf16");
  } catch (const PreconditionError&) {
    throw;
  } catch (const std::exception& error) {
    return fail(ErrorCode::backend, "the kernels could not take the weights of " + path + ": " + error.what());
  }
}

template <MatrixKernels K>
CpuBackend<K>::CpuBackend(std::unique_ptr<State> state) : state_(std::move(state)) {}
template <MatrixKernels K>
CpuBackend<K>::CpuBackend(CpuBackend&&) noexcept = default;
template <MatrixKernels K>
CpuBackend<K>& CpuBackend<K>::operator=(CpuBackend&&) noexcept = default;
template <MatrixKernels K>
CpuBackend<K>::~CpuBackend() = default;

template <MatrixKernels K>
const Geometry& CpuBackend<K>::geometry() const {
  return state_->model.geometry;
}
template <MatrixKernels K>
const Identity& CpuBackend<K>::identity() const {
  return state_->identity;
}
template <MatrixKernels K>
Workers& CpuBackend<K>::workers() {
  return state_->workers;
}

template <MatrixKernels K>
HostKvCache CpuBackend<K>::make_cache(std::size_t capacity) const {
  return {geometry(), capacity, state_->cache_memory};
}

template <MatrixKernels K>
Precision CpuBackend<K>::precision() const {
  return state_->kernels.precision();
}

template <MatrixKernels K>
const DecoderFile& CpuBackend<K>::description() const {
  return state_->model;
}

template <MatrixKernels K>
std::size_t CpuBackend<K>::weight_bytes() const {
  return state_->weights.size();
}

template <MatrixKernels K>
void CpuBackend<K>::embed(std::span<const Token> tokens, Batch& batch) {
  auto& state = *state_;
  expects(tokens.size() == batch.rows(), "embed: as many tokens as rows");
  for (const Token token : tokens)
    expects(token >= 0 && static_cast<std::size_t>(token) < geometry().vocabulary, "embed: no such token");
  const std::size_t width = geometry().hidden;
  const auto hidden = batch.hidden();
  detail::TogetherOnTile{&state.workers}.rows(tokens.size(), [&](std::size_t row, std::size_t) {
    // Cannot fail: the type and the row's length were checked when the file was read.
    (void)read_rows(*state.model.embedding, static_cast<std::size_t>(tokens[row]), hidden.subspan(row * width, width));
  });
}

template <MatrixKernels K>
void CpuBackend<K>::project(std::size_t layer, Batch& batch, std::span<Cache* const> caches, KvWrite write) {
  struct Target {
    std::size_t end;   // of the cache's rows in the batch
    TokenSet present;  // before
    MutableKvRows rows;
  };
  auto& state = *state_;
  expects(layer < geometry().layers, "project: no such layer");
  expects(caches.size() == batch.runs().size(), "project: not a cache for each run of rows");
  const std::size_t rows = batch.rows();
  const auto positions = std::as_const(batch).positions();
  std::vector<Target> targets;
  for (std::size_t i = 0; i < caches.size(); ++i) {
    const RowRange run = batch.runs()[i];
    if (run.size() > 0)
      expects(positions[run.end - 1] < std::min(caches[i]->capacity(), geometry().context),
              "project: a row lies beyond the cache or the model's context");
    targets.push_back({run.end, caches[i]->present(layer), caches[i]->view(layer)});
  }
  const auto target_of = [&](std::size_t row) -> const Target& {
    return *std::upper_bound(targets.begin(), targets.end(), row,
                             [](std::size_t value, const Target& target) { return value < target.end; });
  };
  const auto writes = [&](const Target& target, Position position) {
    return write == KvWrite::all ||
           (write == KvWrite::missing && !target.present.contains({position, position + std::size_t{1}}));
  };

  const auto& weights = state.layers[layer];
  const std::size_t width = geometry().hidden, head_dim = geometry().head_dim;
  const std::size_t query_width = state.query_width(), kv_width = 2 * geometry().kv_values();
  const std::size_t row_bytes = geometry().kv_row_bytes();
  const auto hidden = batch.hidden();
  const auto queries = batch.queries();
  state.by_tiles(rows, false, [&](std::size_t first, std::size_t count, const auto& team, auto& tile) {
    const auto key_values = tile.key_values.template as<float>();
    state.norm_rows(team, hidden.subspan(first * width), count, weights.attention_norm, tile.input);
    state.multiply(
        team, weights.query_key_value, count, tile.input, 1,
        [&](PanelRange panels, RowRange rows_here, std::span<float> y) {
          const std::size_t stride = panels.size() * panel_columns;
          const std::size_t begin = panels.begin * panel_columns;
          const std::size_t end = std::min(panels.end * panel_columns, query_width + kv_width);
          const std::size_t split = std::clamp(query_width, begin, end);  // queries before, keys and values behind
          for (std::size_t row = rows_here.begin; row < rows_here.end; ++row) {
            const auto values = y.subspan((row - rows_here.begin) * stride, end - begin);
            if (!weights.bias.empty()) state.ops.add(values, std::span(weights.bias).subspan(begin, end - begin));
            std::copy_n(values.begin(), split - begin, queries.begin() + (first + row) * query_width + begin);
            if (split < end)
              std::copy(values.begin() + (split - begin), values.end(),
                        key_values.begin() + row * kv_width + (split - query_width));
          }
        });
    team.rows(count, [&](std::size_t row, std::size_t worker) {
      const Position position = positions[first + row];
      const auto angles = state.rooms[worker].row.template as<float>().first(geometry().rotary.dimensions);
      state.rotary.angles(position, angles);
      state.ops.rotate(geometry().rotary, queries.subspan((first + row) * query_width, query_width), head_dim, angles);
      const Target& target = target_of(first + row);
      if (!writes(target, position)) return;
      const auto keys = key_values.subspan(row * kv_width, kv_width / 2);
      state.ops.rotate(geometry().rotary, keys, head_dim, angles);
      state.ops.round(geometry().cache_type, keys, target.rows.keys.subspan(position * row_bytes, row_bytes));
      state.ops.round(geometry().cache_type, key_values.subspan(row * kv_width + kv_width / 2, kv_width / 2),
                      target.rows.values.subspan(position * row_bytes, row_bytes));
    });
  });

  if (write == KvWrite::none) return;
  for (std::size_t i = 0; i < caches.size(); ++i) {
    const RowRange run = batch.runs()[i];
    for (std::size_t begin = run.begin, end; begin < run.end; begin = end) {  // neighbouring positions at once
      for (end = begin + 1; end < run.end && positions[end] == positions[end - 1] + 1; ++end) {
      }
      caches[i]->mark_present(layer, {positions[begin], positions[end - 1] + std::size_t{1}});
    }
  }
}

template <MatrixKernels K>
void CpuBackend<K>::attend(std::size_t layer, Batch& batch, std::span<Cache* const> caches) {
  expects(layer < geometry().layers, "attend: no such layer");
  expects(caches.size() == batch.runs().size(), "attend: not a cache for each run of rows");
  const auto positions = std::as_const(batch).positions();
  const std::size_t width = state_->query_width();
  std::vector<AttentionInput> inputs;
  for (std::size_t i = 0; i < caches.size(); ++i) {
    const RowRange run = batch.runs()[i];
    if (run.size() == 0) continue;
    expects(caches[i]->present(layer).contains({0, positions[run.end - 1] + std::size_t{1}}),
            "attend: a key that a row may see is not present");
    inputs.push_back({positions.subspan(run.begin, run.size()),
                      batch.queries().subspan(run.begin * width, run.size() * width),
                      std::as_const(*caches[i]).view(layer)});
  }
  state_->attention.attend_each(inputs, batch.attention(), state_->workers);
}

template <MatrixKernels K>
void CpuBackend<K>::attend_rows(std::size_t layer, Batch& batch, const Cache& cache, const LentWeights& lent) {
  expects(layer < geometry().layers, "attend: no such layer");
  if (batch.rows() == 0) return;
  const auto positions = std::as_const(batch).positions();
  expects(cache.present(layer).contains({0, positions.back() + std::size_t{1}}),
          "attend: a key that a row may see is not present");
  state_->attention.attend({positions, batch.queries(), cache.view(layer)}, batch.attention(), state_->workers, lent);
}

template <MatrixKernels K>
void CpuBackend<K>::attend_observed(std::size_t layer, Batch& batch, const Cache& cache,
                                    std::span<const std::size_t> wanted,
                                    const std::function<void(const AttentionBlock&)>& show) {
  const auto all = std::as_const(batch).positions();
  const bool every_row = wanted.size() == all.size();
  // Blocks of at most 128 rows, or fewer where keys are many.
  constexpr std::size_t most_values = std::size_t{8} << 20;
  const std::size_t heads = geometry().query_heads, width = heads * geometry().head_dim;
  if (every_row && all.size() > 0)
    expects(layer < geometry().layers && cache.present(layer).contains({0, all.back() + std::size_t{1}}),
            "attend: no such layer, or a key that a row may see is not present");
  else
    attend_rows(layer, batch, cache);
  const auto room = state_->observed.borrow();
  std::vector<Position> positions;
  std::vector<float> picked;
  for (std::size_t begin = 0, end; begin < wanted.size(); begin = end) {
    const std::size_t most = most_values / (heads * (all[wanted.back()] + std::size_t{1}));
    end = std::min(begin + std::clamp<std::size_t>(most, 1, 128), wanted.size());
    const std::size_t keys = all[wanted[end - 1]] + std::size_t{1};
    (*room).reserve(heads * (end - begin) * keys * sizeof(float));
    const auto weights = (*room).template as<float>().first(heads * (end - begin) * keys);
    if (every_row) {
      const auto rows = all.subspan(begin, end - begin);
      const std::size_t values = rows.size() * width;
      state_->attention.attend_and_show({rows, batch.queries().subspan(begin * width, values), cache.view(layer)},
                                        batch.attention().subspan(begin * width, values), weights, state_->workers);
      show(AttentionBlock{layer, rows, keys, heads, weights});
    } else {
      positions.clear();
      picked.clear();
      for (std::size_t i = begin; i < end; ++i) {
        positions.push_back(all[wanted[i]]);
        const auto row = batch.queries().subspan(wanted[i] * width, width);
        picked.insert(picked.end(), row.begin(), row.end());
      }
      state_->attention.weights({positions, picked, cache.view(layer)}, {0, positions.size()}, weights,
                                state_->workers);
      show(AttentionBlock{layer, positions, keys, heads, weights});
    }
  }
}

template <MatrixKernels K>
void CpuBackend<K>::finish(std::size_t layer, Batch& batch) {
  auto& state = *state_;
  expects(layer < geometry().layers, "finish: no such layer");
  const auto& weights = state.layers[layer];
  const std::size_t width = geometry().hidden, query_width = state.query_width(), mlp = state.model.mlp;
  const auto all_hidden = batch.hidden();
  const auto attention = batch.attention();
  state.by_tiles(batch.rows(), false, [&](std::size_t first, std::size_t count, const auto& team, auto& tile) {
    const auto hidden = all_hidden.subspan(first * width, count * width);
    team.rows(count, [&](std::size_t row, std::size_t) {
      state.kernels.prepare(attention.subspan((first + row) * query_width, query_width), 0,
                            state.row_of(tile.input, row, query_width));
    });
    state.add_product(team, weights.output, count, tile.input, hidden);

    state.norm_rows(team, hidden, count, weights.mlp_norm, tile.input);
    state.multiply(
        team, weights.gate_up, count, tile.input, 2, [&](PanelRange panels, RowRange rows, std::span<float> y) {
          const std::size_t stride = panels.size() * panel_columns;
          for (std::size_t panel = panels.begin; panel < panels.end; panel += 2) {
            const std::size_t column = panel / 2 * panel_columns, columns = std::min(panel_columns, mlp - column);
            for (std::size_t row = rows.begin; row < rows.end; ++row) {
              const auto gate =
                  y.subspan((row - rows.begin) * stride + (panel - panels.begin) * panel_columns, columns);
              const std::span<const float> up(gate.data() + panel_columns, columns);
              state.ops.swiglu(gate, up, gate);
              state.kernels.prepare(gate, column, state.row_of(tile.activated, row, mlp));
            }
          }
        });
    state.add_product(team, weights.down, count, tile.activated, hidden);
  });
}

template <MatrixKernels K>
void CpuBackend<K>::logits(Batch& batch, RowRange rows, std::span<float> out) {
  auto& state = *state_;
  const std::size_t width = geometry().hidden, vocabulary = geometry().vocabulary;
  expects(rows.begin <= rows.end && rows.end <= batch.rows(), "logits: the rows are not in the batch");
  expects(out.size() == rows.size() * vocabulary, "logits: the output is not [rows, vocabulary]");
  const auto hidden = batch.hidden().subspan(rows.begin * width, rows.size() * width);
  state.by_tiles(rows.size(), true, [&](std::size_t first, std::size_t count, const auto& team, auto& tile) {
    state.norm_rows(team, hidden.subspan(first * width), count, state.output_norm, tile.input);
    state.multiply(team, state.output, count, tile.input, 1,
                   [&](PanelRange panels, RowRange block, std::span<const float> y) {
                     const std::size_t stride = panels.size() * panel_columns, begin = panels.begin * panel_columns,
                                       end = std::min(panels.end * panel_columns, vocabulary);
                     for (std::size_t row = block.begin; row < block.end; ++row)
                       std::copy_n(y.begin() + (row - block.begin) * stride, end - begin,
                                   out.begin() + (first + row) * vocabulary + begin);
                   });
  });
}

}  // namespace krul
