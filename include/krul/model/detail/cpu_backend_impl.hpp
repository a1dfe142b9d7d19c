#pragma once

// The members of CpuBackend. Include this beside cpu_backend.hpp to instantiate it with kernels of your own.

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "krul/backend/mark_rows.hpp"
#include "krul/model/detail/cpu_backend_state.hpp"
#include "krul/model/detail/cpu_backend_weights.hpp"

namespace krul {

template <MatrixKernels K>
Result<CpuBackend<K>> CpuBackend<K>::load(GgufFile file, K kernels, const CpuBackendOptions& options) {
  const std::size_t threads = options.threads != 0
                                  ? options.threads
                                  : std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, most_threads);
  if (threads > most_threads)
    return fail(ErrorCode::invalid_argument,
                "krul runs on at most " + std::to_string(most_threads) + " threads: ask for fewer");
  auto model = DecoderFile::read(file, options.cache_type, {options.vocabulary, options.context});
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
WeightBytes CpuBackend<K>::weight_bytes() const {
  const detail::ColumnRun all[] = {{state_->model.output, 0, geometry().vocabulary}};
  const std::size_t output = state_->kernels.packed_bytes(detail::shape_of(all, geometry().hidden));
  return {state_->weights.size() - output, output};
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
    const typename State::RowsOf input{tile.input, count, layer};
    state.norm_rows(team, hidden.subspan(first * width), weights.attention_norm, weights.query_key_value, input);
    state.multiply(
        team, weights.query_key_value, input, 1, [&](PanelRange panels, RowRange rows_here, std::span<float> y) {
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
    mark_rows(*caches[i], layer, positions.subspan(run.begin, run.size()));
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
      const auto attended = attention.subspan((first + row) * query_width, query_width);
      state.require_finite_row(attended, layer);
      state.kernels.prepare(weights.output, attended, 0, state.row_of(tile.input, row, query_width));
    });
    const typename State::RowsOf input{tile.input, count, layer};
    state.add_product(team, weights.output, input, hidden);

    state.norm_rows(team, hidden, weights.mlp_norm, weights.gate_up, input);
    state.multiply(team, weights.gate_up, input, 2, [&](PanelRange panels, RowRange rows, std::span<float> y) {
      const std::size_t stride = panels.size() * panel_columns;
      for (std::size_t panel = panels.begin; panel < panels.end; panel += 2) {
        const std::size_t column = panel / 2 * panel_columns, columns = std::min(panel_columns, mlp - column);
        for (std::size_t row = rows.begin; row < rows.end; ++row) {
          const auto gate = y.subspan((row - rows.begin) * stride + (panel - panels.begin) * panel_columns, columns);
          const std::span<const float> up(gate.data() + panel_columns, columns);
          state.ops.swiglu(gate, up, gate);
          state.kernels.prepare(weights.down, gate, column, state.row_of(tile.activated, row, mlp));
        }
      }
    });
    state.add_product(team, weights.down, {tile.activated, count, layer}, hidden);
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
    const typename State::RowsOf input{tile.input, count, geometry().layers};
    state.norm_rows(team, hidden.subspan(first * width), state.output_norm, state.output, input);
    state.multiply(team, state.output, input, 1, [&](PanelRange panels, RowRange block, std::span<const float> y) {
      const std::size_t stride = panels.size() * panel_columns, begin = panels.begin * panel_columns,
                        end = std::min(panels.end * panel_columns, vocabulary);
      for (std::size_t row = block.begin; row < block.end; ++row)
        std::copy_n(y.begin() + (row - block.begin) * stride, end - begin,
                    out.begin() + (first + row) * vocabulary + begin);
    });
  });
}

}  // namespace krul
